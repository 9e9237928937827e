/*
 * Calls: which method a request means, its deadline and trace; the call to the
 * metadata worker (or an answer made here); replies, the log line. They are the
 * same whatever carries them: gRPC's streams over HTTP/2, or ttrpc's.
 *
 * Services are tables. A method is a row that names the internal message that
 * carries it; its types are that message's types, unless it has a translator. Or
 * it has a handler, which makes calls of its own. A service's protobuf
 * descriptor says what else could be called: that is answered UNIMPLEMENTED by
 * name.
 */
#pragma once

#include "boot/endpoint.h"
#include "loop/loop.h"
#include "msg/msg.h"
#include "workers/api/protocol.h"

#include <errno.h>
#include <protobuf-c/protobuf-c.h>

#define GRPC_HEADERS_MAX 4
#define GRPC_MESSAGE_MAX (16u << 20) /* what clients of the CRI and of containerd expect */

struct grpc_call;

/* What a translator works with: the messages that it makes live in the arena,
 * the rest as long as the call. */
struct grpc_translation {
	struct arena *arena;
	const struct grpc_target *target; /* what was called */
	const struct grpc_call *call;	  /* for grpc_header */
	/* From the request, for the replies. */
	struct arena *kept; /* as long as the call */
	uint64_t cursor;
	void *state;
	void (*state_free)(void *state); /* may be NULL */
	/* Set by reply: the same internal reply has another for the client. */
	bool more;
};

/* Between a dialect's messages and those of the internal row. Each function
 * returns 0 or a negative errno with the sentence. */
struct grpc_translator {
	int (*request)(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault);
	/* *reply is an empty message of the method's type. Another may take its
	 * place, or NULL: nothing that the client would hear of. Without a function
	 * the client hears the empty one. */
	int (*reply)(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		     struct fault *fault);
	/* Gives the row's failure the code that the dialect has for it. May be NULL. */
	void (*failure)(struct fault *fault);
};

/* What a translator returns when its arena gives nothing. */
static inline int grpc_no_memory(struct fault *fault) {
	return fault_errno(fault, ENOMEM, "translate");
}

/*
 * A method that does more than one row can say: several calls of its own, or a
 * stream in either direction. All that it holds hangs on what open returns.
 *
 * message, end and room come from the loop, one at a time; each may reply, fail
 * or finish, and mustn't touch what it holds after it has: closed comes from
 * within then.
 *
 *   a reply in parts  grpc_reply_part while grpc_unsent is small, go on in room;
 *                     grpc_finish
 *   a long request    busy while what came isn't worked off; grpc_ready then
 *   calls             X_send(grpc_call_server(c)->metadata, grpc_call_context(c),
 *                     ...); those that are open are cancelled in closed
 */
struct grpc_handler {
	bool client_streams;		    /* the request is a stream: message comes for each of it, then end */
	void *(*open)(struct grpc_call *c); /* NULL: out of memory */
	/* Valid during the call. Without client_streams it comes once. */
	void (*message)(void *handler, const ProtobufCMessage *request);
	/* The client has sent its all, and message has seen it. */
	void (*end)(void *handler);
	/* All replies so far have gone out. May be NULL. */
	void (*room)(void *handler);
	/* No further message now. NULL: never. */
	bool (*busy)(void *handler);
	/* Once, whatever has ended the call. */
	void (*closed)(void *handler);
};

struct grpc_method {
	const char *name;
	uint16_t number; /* of its row in messages.def, or */
	/* answered here, by grpc_reply or grpc_fail before it returns */
	void (*answer)(struct grpc_call *c, const ProtobufCMessage *request);
	const struct grpc_handler *handler;
	const struct grpc_translator *translator; /* NULL: the row has the client's own types */
	const void *about;			  /* what a translator of several methods reads of this one */
	/* Requests are decoded as this, which is the same on the wire; NULL: as
	 * the service's descriptor says. Replies are packed as what they are. */
	const ProtobufCMessageDescriptor *input;
	/* What an endpoint needs for a method that isn't one row; 0: full. */
	enum link_access access;
	bool local;   /* asks nobody, like what has an answer here: any endpoint may */
	bool changes; /* something: its log line is for everybody */
	bool latest;  /* each reply of the stream replaces the ones before: a slow client may miss some */
	bool list;    /* the stream's replies are parts of a list: it ends by itself, however much is unread */
};

struct grpc_service {
	enum service_group group;
	const char *name;    /* "runtime.v1.RuntimeService", as in the path */
	const char *version; /* "v1" */
	const ProtobufCServiceDescriptor *api;
	const struct grpc_method *methods; /* ends with name NULL */
	const char *const *headers; /* that its methods read, lower case; ends with NULL, at most GRPC_HEADERS_MAX */
};

struct grpc_server {
	struct loop *loop;
	struct link *metadata;
	const struct boot_endpoint *endpoint;
	const struct grpc_service *services; /* ends with name NULL */
	uint64_t next_request;		     /* ids: random upper half, then counting */
	struct health_watch *watches;	     /* health.c */
	struct agent_streams *agent_streams; /* agent/streams.c */
	struct small_blobs *small_blobs;     /* containerd/small_blobs.c */
};

/* What an endpoint's connections speak; their owner is a struct grpc_server. */
extern const struct protocol protocol_grpc;  /* over HTTP/2 */
extern const struct protocol protocol_ttrpc; /* unary calls only */

/* For answer functions. */
int grpc_reply(struct grpc_call *c, const ProtobufCMessage *reply);
void grpc_fail(struct grpc_call *c, const struct fault *fault);
void grpc_failf(struct grpc_call *c, enum fault_code code, const char *format, ...) PRINTF(3, 4);
/* For handlers. A negative errno: the call has ended, and with it the handler. */
int grpc_reply_part(struct grpc_call *c, const ProtobufCMessage *reply);
/* Bytes of replies that the client hasn't taken yet; more than 4 MiB end the
 * call. */
size_t grpc_unsent(const struct grpc_call *c);
/* busy has changed: what waits comes soon, from the loop. */
void grpc_ready(struct grpc_call *c);
/* A value as long as the call, NULL when the request has none. */
const char *grpc_header(const struct grpc_call *c, const char *name);
/* As long as the call. */
struct arena *grpc_call_arena(struct grpc_call *c);
const struct msg_context *grpc_call_context(const struct grpc_call *c);
/* One field beside the status at the end; name is a literal. */
void grpc_trailer(struct grpc_call *c, const char *name, int value);
void grpc_finish(struct grpc_call *c);

const struct grpc_service *grpc_call_service(const struct grpc_call *c);
struct grpc_server *grpc_call_server(const struct grpc_call *c);

/* NULL when the endpoint has none of that name. */
const struct grpc_service *grpc_service_find(const struct grpc_server *server, const char *name, size_t size);

/* What a path means at an endpoint, or UNIMPLEMENTED. */
struct grpc_target {
	const struct grpc_service *service;
	const struct grpc_method *method;
	const ProtobufCMethodDescriptor *types;
};
/* A message of the row's reply as one for the client; NULL in *ret_reply: none. */
int grpc_translate_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
			 struct fault *fault);
/* What a request is decoded as. */
const ProtobufCMessageDescriptor *grpc_input(const struct grpc_target *target);
int grpc_resolve(const struct grpc_server *server, const char *path, struct grpc_target *ret_target,
		 struct fault *fault);
