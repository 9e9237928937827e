#include "workers/api/containerd/objects.h"

#include <string.h>

#define PART 100 /* objects in one message of a list in parts */

static const struct ctd_objects *objects_of(const struct grpc_translation *t) {
	return t->target->method->about;
}

/* --- what messages have ----------------------------------------------------- */

static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessage *m, const char *name) {
	return protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name);
}

/* All messages about objects have one. */
static const ProtobufCFieldDescriptor *object_field(const ProtobufCMessage *m) {
	const ProtobufCFieldDescriptor *f = m->descriptor->fields;
	while (f->type != PROTOBUF_C_TYPE_MESSAGE)
		f++;
	return f;
}

static void *value_of(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
	return (char *)(uintptr_t)m + f->offset;
}

static size_t *count_of(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f) {
	return (size_t *)(void *)((char *)(uintptr_t)m + f->quantifier_offset);
}

static char *key_of(const struct grpc_translation *t, const ProtobufCMessage *request) {
	return *(char **)value_of(request, field_of(request, objects_of(t)->key));
}

struct texts {
	char **list;
	size_t n;
};

/* The strings of a field; none when there is no such field. */
static struct texts texts_of(const ProtobufCMessage *m, const char *name) {
	const ProtobufCFieldDescriptor *f = field_of(m, name);
	if (!f)
		return (struct texts){ 0 };
	char **one = value_of(m, f);
	return f->label == PROTOBUF_C_LABEL_REPEATED ? (struct texts){ *(char ***)value_of(m, f), *count_of(m, f) }
						     : (struct texts){ one, **one ? 1 : 0 };
}

/* --- requests --------------------------------------------------------------- */

static int check(const struct grpc_translation *t, const ProtobufCMessage *request, struct fault *fault) {
	return objects_of(t)->check ? objects_of(t)->check(request, fault) : 0;
}

int ctd_key_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		    struct fault *fault) {
	Bulkhead__ObjectKey *k = ctd_key(t, objects_of(t)->kind, key_of(t, request));
	if (!k)
		return grpc_no_memory(fault);
	*ret_internal = &k->base;
	return check(t, request, fault);
}

static int list_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	Bulkhead__ObjectListRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectListRequest, BULKHEAD__OBJECT_LIST_REQUEST__INIT);
	struct texts filters = texts_of(request, field_of(request, "filters") ? "filters" : "filter");
	int r = q ? check(t, request, fault) : grpc_no_memory(fault);
	if (r == 0)
		r = ctd_filters_keep(t, filters.list, filters.n, fault);
	if (r < 0)
		return r;
	q->kind = objects_of(t)->kind;
	if (q->kind != BULKHEAD__OBJECT_KIND__OBJECT_NAMESPACE)
		q->namespace_ = ctd_namespace(t);
	*ret_internal = &q->base;
	return 0;
}

static Bulkhead__Object *object_of(struct grpc_translation *t, const ProtobufCMessage *request) {
	return objects_of(t)->object(t, *(void **)value_of(request, object_field(request)));
}

static int create_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	Bulkhead__Object *o = object_of(t, request);
	if (!o)
		return grpc_no_memory(fault);
	*ret_internal = &o->base;
	return check(t, request, fault);
}

int ctd_update(struct grpc_translation *t, Bulkhead__Object *object, char **paths, size_t n_paths,
	       ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__ObjectUpdateRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectUpdateRequest, BULKHEAD__OBJECT_UPDATE_REQUEST__INIT);
	if (!q || !object)
		return grpc_no_memory(fault);
	q->object = object;
	q->paths = paths;
	q->n_paths = n_paths;
	*ret_internal = &q->base;
	return 0;
}

static struct texts paths_of(const ProtobufCMessage *request) {
	const ProtobufCFieldDescriptor *f = field_of(request, "update_mask");
	if (!f)
		return texts_of(request, "fields");
	const Google__Protobuf__FieldMask *mask = *(Google__Protobuf__FieldMask **)value_of(request, f);
	return mask ? (struct texts){ mask->paths, mask->n_paths } : (struct texts){ 0 };
}

static int update_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	struct texts paths = paths_of(request);
	int r = check(t, request, fault);
	return r < 0 ? r : ctd_update(t, object_of(t, request), paths.list, paths.n, ret_internal, fault);
}

int ctd_delete_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault) {
	const ProtobufCFieldDescriptor *sync = field_of(request, "sync");
	Bulkhead__ObjectDeleteRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__ObjectDeleteRequest, BULKHEAD__OBJECT_DELETE_REQUEST__INIT);
	if (!q || !(q->id = ctd_key(t, objects_of(t)->kind, key_of(t, request))))
		return grpc_no_memory(fault);
	q->wait = sync && *(protobuf_c_boolean *)value_of(request, sync);
	*ret_internal = &q->base;
	return check(t, request, fault);
}

/* --- replies ---------------------------------------------------------------- */

const Bulkhead__Object *ctd_object_of(const struct grpc_translation *t, const ProtobufCMessage *internal,
				      struct fault *fault) {
	const Bulkhead__Object *o = (const Bulkhead__Object *)internal;
	if (ctd_object_whole(o) && o->id->kind == objects_of(t)->kind)
		return o;
	fault_set(fault, FAULT_INTERNAL, "the metadata worker has sent an object that isn't whole, or of another kind");
	return NULL;
}

static void *one(struct grpc_translation *t, const ProtobufCMessage *internal, struct fault *fault) {
	const Bulkhead__Object *o = ctd_object_of(t, internal, fault);
	void *made = o ? objects_of(t)->make(t, o) : NULL;
	if (o && !made)
		grpc_no_memory(fault);
	return made;
}

int ctd_object_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		     struct fault *fault) {
	void **at = value_of(*reply, object_field(*reply));
	*at = one(t, internal, fault);
	return *at ? 0 : -EBADMSG;
}

/* The next of the list that the request's filters want, at most max. */
static int next(struct grpc_translation *t, const Bulkhead__ObjectList *l, size_t max, void **ret_list, size_t *ret_n,
		struct fault *fault) {
	size_t n = 0;
	while (t->cursor < l->n_objects && n < max) {
		const Bulkhead__Object *o = l->objects[t->cursor++];
		if (!filters_match(t->state, ctd_object_field, o))
			continue;
		if (!(ret_list[n++] = one(t, &o->base, fault)))
			return -EBADMSG;
	}
	*ret_n = n;
	return 0;
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__ObjectList *l = (const Bulkhead__ObjectList *)internal;
	const ProtobufCFieldDescriptor *f = object_field(*reply);
	bool many = f->label == PROTOBUF_C_LABEL_REPEATED, stream = t->target->method->list;
	size_t left = l->n_objects - MIN(t->cursor, l->n_objects), n = 0;
	size_t max = MIN(left, stream ? (many ? PART : 1) : SIZE_MAX);
	void **list = arena_alloc(t->arena, (max + 1) * sizeof(*list));
	int r = list ? next(t, l, max, list, &n, fault) : grpc_no_memory(fault);
	t->more = stream && t->cursor < l->n_objects;
	if (many) {
		*(void ***)value_of(*reply, f) = list;
		*count_of(*reply, f) = n;
	} else if (n) {
		*(void **)value_of(*reply, f) = list[0];
	}
	if (stream && n == 0)
		*reply = NULL;
	return r;
}

const struct grpc_translator ctd_object_get = { ctd_key_request, ctd_object_reply };
const struct grpc_translator ctd_object_list = { list_request, list_reply };
const struct grpc_translator ctd_object_create = { create_request, ctd_object_reply };
const struct grpc_translator ctd_object_update = { update_request, ctd_object_reply };
const struct grpc_translator ctd_object_delete = { .request = ctd_delete_request };
