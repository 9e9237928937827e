/*
 * gRPC over HTTP/2 streams: which method a request means, its deadline and
 * trace, its one message; the call to the metadata worker (or an answer made
 * here); replies, trailers, the log line.
 *
 * Services are tables. A method is a row that names the internal message that
 * carries it; its types are that message's types, unless it has a translator. A
 * service's protobuf
 * descriptor says what else could be called: that is answered UNIMPLEMENTED by
 * name.
 */
#pragma once

#include "workers/api/http2.h"
#include "boot/endpoint.h"
#include "loop/loop.h"
#include "msg/msg.h"

#include <protobuf-c/protobuf-c.h>

#define GRPC_MESSAGE_MAX (16u << 20) /* what clients of the CRI and of containerd expect */

struct grpc_call;

/* What a translator works with: the messages that it makes live in the arena,
 * the rest as long as the call. */
struct grpc_translation {
	struct arena *arena;
	const struct grpc_service *service;
	uint64_t cursor;
	char *name; /* from malloc; freed with the call */
};

/* Between a dialect's messages and those of the internal row. Each function
 * returns 0 or a negative errno with the sentence. */
struct grpc_translator {
	int (*request)(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault);
	/* NULL in *ret_reply: nothing that the client would hear of. */
	int (*reply)(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		     struct fault *fault);
};

/* A call whose request is a stream of messages, too. All that it holds hangs on
 * what open returns; closed comes once, also when the call ends from within one
 * of the other functions, which then mustn't touch it any more. */
struct grpc_duplex {
	void *(*open)(struct grpc_call *c); /* NULL: out of memory */
	void (*message)(void *duplex, const ProtobufCMessage *request);
	void (*end)(void *duplex); /* the client has sent its all */
	/* All replies have gone out. Not from within the loop's callbacks of the
	 * call itself: act later. */
	void (*room)(void *duplex);
	/* Whether it can't take more messages now; grpc_ready says when it can. */
	bool (*busy)(void *duplex);
	void (*closed)(void *duplex);
};

struct grpc_method {
	const char *name;
	uint16_t number; /* of its row in messages.def, or */
	/* answered here, by grpc_reply or grpc_fail before it returns */
	void (*answer)(struct grpc_call *c, const ProtobufCMessage *request);
	const struct grpc_duplex *duplex;
	const struct grpc_translator *translator; /* NULL: the row has the client's own types */
	/* What an endpoint needs for a method that isn't one row; 0: full. */
	enum link_access access;
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
};

struct grpc_server {
	struct loop *loop;
	struct link *metadata;
	const struct boot_endpoint *endpoint;
	const struct grpc_service *services; /* ends with name NULL */
	uint64_t next_request;		     /* ids: random upper half, then counting */
};

/* For the sessions; the owner is a struct grpc_server. */
extern const struct http2_events grpc_events;

/* For answer functions. */
int grpc_reply(struct grpc_call *c, const ProtobufCMessage *reply);
void grpc_fail(struct grpc_call *c, const struct fault *fault);
void grpc_failf(struct grpc_call *c, enum fault_code code, const char *format, ...) PRINTF(3, 4);
/* For duplex calls. */
int grpc_reply_part(struct grpc_call *c, const ProtobufCMessage *reply);
size_t grpc_unsent(const struct grpc_call *c);
void grpc_ready(struct grpc_call *c);
const struct msg_context *grpc_call_context(const struct grpc_call *c);
/* One field beside the status at the end; name is a literal. */
void grpc_trailer(struct grpc_call *c, const char *name, int value);
void grpc_finish(struct grpc_call *c);

const struct grpc_service *grpc_call_service(const struct grpc_call *c);
const struct grpc_server *grpc_call_server(const struct grpc_call *c);

/* NULL when the endpoint has none of that name. */
const struct grpc_service *grpc_service_find(const struct grpc_server *server, const char *name, size_t size);

/* What a path means at an endpoint, or UNIMPLEMENTED. */
struct grpc_target {
	const struct grpc_service *service;
	const struct grpc_method *method;
	const ProtobufCMethodDescriptor *types;
};
int grpc_resolve(const struct grpc_server *server, const char *path, struct grpc_target *ret_target,
		 struct fault *fault);
