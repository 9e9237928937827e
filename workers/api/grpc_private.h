/* A call, for the files of the gRPC layer; methods see grpc.h only.
 *
 *   grpc.c          how a call ends; replies and the log line
 *   grpc_request.c  how it begins: header fields, the one message, the row
 *   grpc_handler.c  calls with a handler of their own
 */
#pragma once

#include "workers/api/frame.h"
#include "workers/api/grpc.h"

/* Decoded, a message may take this many times its bytes; arrays of empty
 * messages would take more. */
#define DECODED_FACTOR 16
#define DECODED_MAX (128u << 20)
#define DECODED_LEAST (64u << 10)

struct grpc_call {
	struct grpc_server *server;
	struct http2_stream *stream;
	struct grpc_target target; /* method NULL: none was found */
	const struct msg_row *row;
	struct msg_context context;
	int64_t begun;
	struct arena arena; /* as long as the call */
	const char *headers[GRPC_HEADERS_MAX];
	struct frame frame;
	struct grpc_translation translation;
	struct msg_call *call;
	struct loop_source *deadline;
	bool responded, finished;
	enum fault_code code;
	char *message;	     /* encoded for grpc-message; NULL: none */
	const char *trailer; /* NULL: none */
	char trailer_text[16];
	char code_text[4];
	/* with a handler */
	void *handler;
	struct buffer waiting; /* received, and the handler has enough */
	size_t owed;	       /* taken in, and the client may not replace it yet */
	bool input_over, end_told;
	struct loop_source *feed_later, *room_later;
};

/* The size to which an arena for a message of so many bytes may grow. */
static inline size_t decoded_limit(size_t size) {
	return MIN(DECODED_LEAST + size * DECODED_FACTOR, DECODED_MAX);
}

static inline const struct grpc_handler *handler_of(const struct grpc_call *c) {
	return c->target.method ? c->target.method->handler : NULL;
}

/* grpc.c. path: of a method that isn't known; fault NULL: success. */
void grpc_call_finish(struct grpc_call *c, const char *path, const struct fault *fault);
/* A fault that this layer found: the sentence begins with the method. */
void grpc_call_fail(struct grpc_call *c, struct fault *fault);
int grpc_call_respond(struct grpc_call *c, bool end);
void grpc_call_answered(void *ctx, const struct msg_answer *answer);

/* grpc_request.c */
void request_begin(struct grpc_call *c, const struct head *head);
void request_data(struct grpc_call *c, const uint8_t *data, size_t size);
void request_end(struct grpc_call *c);

/* grpc_handler.c */
int handler_open(struct grpc_call *c, struct fault *fault);
/* For requests that are a stream of messages. */
void handler_data(struct grpc_call *c, const uint8_t *data, size_t size);
void handler_end(struct grpc_call *c);
void handler_room(struct grpc_call *c);
/* The last thing that it hears. */
void handler_close(struct grpc_call *c);
