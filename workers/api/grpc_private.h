/* A call, for the files that carry calls; methods see grpc.h only.
 *
 *   grpc.c          how a call ends; replies and the log line
 *   grpc_request.c  how it begins: who may, the method, deadline, the row
 *   grpc_handler.c  calls with a handler of their own
 *   carriers        grpc_http2.c, ttrpc_call.c: embed a struct grpc_call
 *
 * A carrier makes a call, routes it, gives it its request and, whenever it
 * likes after the call has finished or the client is gone, ends it:
 *
 *   grpc_call_init, grpc_call_route, grpc_call_timeout, grpc_call_headers,
 *   handler_open, grpc_call_request, grpc_call_deinit
 */
#pragma once

#include "workers/api/grpc.h"

/* How a call speaks with its client. None of these may free the call. */
struct grpc_carrier {
	/* A reply; with more there are others to come, or may be. */
	int (*send)(struct grpc_call *c, const struct msg_body *reply, bool more, struct fault *fault);
	/* What the client hasn't taken of them yet. */
	size_t (*unsent)(const struct grpc_call *c);
	/* Nobody needs the request any more; may come more than once. */
	void (*release)(struct grpc_call *c);
	/* The end: fault NULL is success. */
	void (*finish)(struct grpc_call *c, const struct fault *fault);
	/* A handler isn't busy any more. NULL: no request is a stream. */
	void (*ready)(struct grpc_call *c);
};

struct grpc_call {
	struct grpc_server *server;
	const struct grpc_carrier *carrier;
	struct credentials peer;
	struct grpc_target target; /* method NULL: none was found */
	const struct msg_row *row;
	struct msg_context context;
	int64_t begun;
	struct arena arena; /* as long as the call */
	const char *headers[GRPC_HEADERS_MAX];
	struct grpc_translation translation;
	struct msg_call *call;
	struct loop_source *deadline;
	bool finished;
	enum fault_code code;
	const char *trailer; /* NULL: none */
	char trailer_text[16];
	void *handler;
	struct loop_source *room_later;
};

static inline const struct grpc_handler *handler_of(const struct grpc_call *c) {
	return c->target.method ? c->target.method->handler : NULL;
}

/* grpc.c */
void grpc_call_init(struct grpc_call *c, struct grpc_server *server, const struct grpc_carrier *carrier,
		    const struct credentials *peer);
/* Cancels what is still open. */
void grpc_call_deinit(struct grpc_call *c);
/* path: of a method that isn't known; fault NULL: success. */
void grpc_call_finish(struct grpc_call *c, const char *path, const struct fault *fault);
/* A fault that was found before the method's own code: the sentence begins with
 * the method. */
void grpc_call_fail(struct grpc_call *c, struct fault *fault);
void grpc_call_answered(void *ctx, const struct msg_answer *answer);

/* grpc_request.c */
/* What the path means, and whether this client may: 0, or the fault with which
 * the caller finishes the call. */
int grpc_call_route(struct grpc_call *c, const char *path, struct fault *fault);
/* How many bytes the request may have. */
size_t grpc_call_limit(const struct grpc_call *c);
int grpc_call_timeout(struct grpc_call *c, int64_t ns, struct fault *fault);
/* What the method reads of the fields beside the request; get says NULL for one
 * that didn't come. */
int grpc_call_headers(struct grpc_call *c, const char *(*get)(const void *ctx, const char *name), const void *ctx,
		      struct fault *fault);
/* The one message of the request, which isn't needed any more when this
 * returns; the call may have finished then. */
void grpc_call_request(struct grpc_call *c, const uint8_t *data, size_t size);

/* grpc_handler.c */
int handler_open(struct grpc_call *c, struct fault *fault);
void handler_room(struct grpc_call *c);
/* The last thing that it hears. */
void handler_close(struct grpc_call *c);
