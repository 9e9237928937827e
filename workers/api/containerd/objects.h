/*
 * Services of objects (containers, images, ...): what their calls have in common
 * is done here once, for all of them, by what the descriptors of their messages
 * say. A service's rows point to what is its own.
 *
 *   requests   the key of Get and Delete is the field that the service names;
 *              filters are the field filters, or the one filter; an object is
 *              the only message; what an update changes is in update_mask or
 *              fields; sync makes a deletion wait
 *   replies    an object, or a list of objects, is the only message. A list that
 *              is a stream comes in parts when its message has room for many,
 *              else one by one
 */
#pragma once

#include "workers/api/containerd/containerd.h"

/* In a method's row as about. */
struct ctd_objects {
	Bulkhead__ObjectKind kind;
	const char *key;
	/* As the client sees it, in the arena. o is whole and of this kind. */
	void *(*make)(struct grpc_translation *t, const Bulkhead__Object *o);
	/* And as it comes from the client, where Create and Update are such. NULL
	 * is a client's too. */
	Bulkhead__Object *(*object)(struct grpc_translation *t, const void *from);
	/* What holds for all requests. May be NULL. */
	int (*check)(const ProtobufCMessage *request, struct fault *fault);
};

typedef int ctd_request_fn(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			   struct fault *fault);
typedef int ctd_reply_fn(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			 struct fault *fault);

/* Of a method's row, all but the name. */
#define CTD_OBJECT(row, objects) .number = MSG_object_##row, .translator = &ctd_object_##row, .about = &(objects)
#define CTD_OBJECT_GET(objects) CTD_OBJECT(get, objects)
#define CTD_OBJECT_LIST(objects) CTD_OBJECT(list, objects)
#define CTD_OBJECT_STREAM(objects) CTD_OBJECT(list, objects), .list = true
#define CTD_OBJECT_CREATE(objects) CTD_OBJECT(create, objects), .changes = true
#define CTD_OBJECT_UPDATE(objects) CTD_OBJECT(update, objects), .changes = true
#define CTD_OBJECT_DELETE(objects) CTD_OBJECT(delete, objects), .changes = true

/* For methods that share but half. */
ctd_request_fn ctd_key_request, ctd_delete_request;
ctd_reply_fn ctd_object_reply;

extern const struct grpc_translator ctd_object_get, ctd_object_list, ctd_object_create, ctd_object_update,
    ctd_object_delete;

/* An update of the fields that paths names; none: of all. */
int ctd_update(struct grpc_translation *t, Bulkhead__Object *object, char **paths, size_t n_paths,
	       ProtobufCMessage **ret_internal, struct fault *fault);
/* An object of the method's kind; NULL and a fault when it is another, or isn't
 * whole: as the metadata worker sends them. That is a bug, and no reason to die
 * of it. */
const Bulkhead__Object *ctd_object_of(const struct grpc_translation *t, const ProtobufCMessage *internal,
				      struct fault *fault);

/* --- object_fields.c --- */

/* Has it what the objects of its kind have? */
bool ctd_object_whole(const Bulkhead__Object *o);
/* For filters_match. */
const char *ctd_object_field(const void *object, const char *const *path, size_t n_path);
