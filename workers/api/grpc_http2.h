/* gRPC's calls on HTTP/2's streams, for the files that carry them:
 *
 *   grpc_http2.c         header fields, the one message, replies, trailers
 *   grpc_http2_stream.c  requests that are a stream of messages
 */
#pragma once

#include "workers/api/frame.h"
#include "workers/api/grpc_private.h"
#include "workers/api/http2.h"

struct http2_call {
	struct grpc_call call;
	struct http2_stream *stream;
	struct frame frame;
	bool responded;
	char *message; /* encoded for grpc-message; NULL: none */
	char code_text[4];
	/* of a request that is a stream */
	struct buffer waiting; /* received, and the handler has enough */
	size_t owed;	       /* taken in, and the client may not replace it yet */
	bool input_over, end_told;
	struct loop_source *feed_later;
};

/* grpc_http2_stream.c */
void stream_data(struct http2_call *h, const uint8_t *data, size_t size);
void stream_end(struct http2_call *h);
/* The handler isn't busy any more. */
void stream_ready(struct http2_call *h);
void stream_deinit(struct http2_call *h);
