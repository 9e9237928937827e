/*
 * ttrpc, server side, for the files that make it:
 *
 *   ipc/ttrpc      frames, the line of hybrid vsock, and the client side
 *   ttrpc.c        a connection: frames in, which streams there may be, frames out
 *   ttrpc_call.c   a stream: from a request to a call, from its reply to a response
 *
 * Only unary calls are served: a request is one frame and so is its response.
 * Any number of them is open at a time, and some for hours; ttrpc has neither a
 * ping nor a way to cancel one (but see on_data), so an open call costs its few hundred bytes and
 * nothing else.
 *
 * What a client sends that isn't allowed is answered on the stream that it
 * names, and the connection goes on:
 *
 *   a number that is even, or not above all before      INVALID_ARGUMENT
 *   unknown flags of a request                          INVALID_ARGUMENT
 *   a request that more is to follow                    UNIMPLEMENTED
 *   data that doesn't belong to a call                  INVALID_ARGUMENT
 *   more than 4 MiB, which are read and thrown away     RESOURCE_EXHAUSTED
 *
 * Frames of other types, and a client's responses, are passed over.
 */
#pragma once

#include "base/list.h"
#include "ttrpc/frame.h"
#include "workers/api/grpc_private.h"

struct ttrpc_session {
	struct protocol_options options;
	struct budget budget;
	struct list streams, ended; /* ended: waiting to be freed */
	size_t n_streams;	    /* open ones */
	uint32_t last;		    /* stream */
	bool begun, stopping, failed;
	bool met; /* on a line: the client has begun with us */
	bool fed; /* within input: output follows anyway */

	/* The frame that is arriving, or a line of hybrid vsock's. */
	uint8_t header[TTRPC_HEADER];
	size_t n_header, left; /* left: of its data */
	struct ttrpc_frame frame;
	struct buffer body;
	bool skip;   /* nobody wants its data */
	size_t held; /* of the budget, for body */
	bool greeting;
	char line[TTRPC_CONNECT_MAX];
	size_t n_line;

	struct buffer out;
	size_t out_sent, out_held; /* held: of the budget, for what out has */
};

/* ttrpc.c. The response of a stream; fault NULL is success. What payload (NULL:
 * none) has was taken from the budget, and is given back once it was sent. */
void ttrpc_respond(struct ttrpc_session *s, uint32_t stream, const struct fault *fault, const struct buffer *payload);
/* A failure, whose sentence begins with the stream's number. */
void ttrpc_answer(struct ttrpc_session *s, uint32_t stream, enum fault_code code, const char *format, ...) PRINTF(4, 5);

/* ttrpc_call.c */
struct ttrpc_stream;
/* Opens the call that a request means. */
void ttrpc_stream_begin(struct ttrpc_session *s, uint32_t id, const uint8_t *data, size_t size);
/* NULL when no call is open there. */
struct ttrpc_stream *ttrpc_stream_find(const struct ttrpc_session *s, uint32_t id);
/* Data came for a call that takes none. */
void ttrpc_stream_data(struct ttrpc_stream *t);
/* Its client wants no response; it gets one, like any. */
void ttrpc_stream_cancel(struct ttrpc_stream *t);
/* Those that have ended; with all the open ones too. */
void ttrpc_streams_free(struct ttrpc_session *s, bool all);
