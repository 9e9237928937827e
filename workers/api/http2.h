/*
 * HTTP/2, server side: bytes of one connection in, requests out, replies in,
 * bytes out. Knows no socket and no gRPC; nghttp2 is known here only.
 *
 * A session belongs to one connection. Each request is a stream; the user
 * attaches a call to it in open() and hears about it until closed(), which
 * comes exactly once per call, after which the stream must not be used.
 *
 * A reply is http2_respond, any number of http2_send, http2_finish. Whenever
 * there are bytes to take the session says so by wants_output; the
 * connection's owner then calls http2_output, never from within wants_output.
 *
 * Limits (all in http2.c): streams per connection, header list, nghttp2's own
 * memory, and through the budget what streams hold. Resets and CONTINUATION
 * floods are limited by nghttp2. A session that breaks them ends by itself.
 */
#pragma once

#include "base/buffer.h"
#include "workers/api/budget.h"
#include "workers/api/head.h"
#include "workers/api/credentials.h"

struct http2_session;
struct http2_stream;

/* Both strings as the wire has them, name in lower case. */
struct http2_field {
	const char *name, *value;
};
#define HTTP2_FIELDS_MAX 6

struct http2_events {
	/* A request's header fields are complete (or too large: see
	 * head->verdict). They are valid during the call only. The returned call
	 * is the first argument of the others; NULL refuses the stream. */
	void *(*open)(void *owner, struct http2_stream *s, const struct head *head);
	void (*data)(void *call, const uint8_t *data, size_t size);
	/* The client has sent its all. */
	void (*end)(void *call);
	/* After the last byte of http2_send: the fields that end the reply; how many. */
	size_t (*trailers)(void *call, struct http2_field ret_fields[HTTP2_FIELDS_MAX]);
	/* All of http2_send has gone out. From within http2_output: act later. */
	void (*room)(void *call);
	/* The stream is gone: replied, reset, or its connection died. */
	void (*closed)(void *call);
};

struct http2_options {
	const struct http2_events *events;
	void *owner; /* first argument of open */
	void (*wants_output)(void *ctx);
	void *ctx;
	struct budget *budget; /* of all connections */
	struct credentials peer;
};

int http2_session_new(const struct http2_options *options, struct http2_session **ret_session) NODISCARD;
/* Closes all streams. NULL does nothing. Never from within an event. */
void http2_session_free(struct http2_session *c);

/* Bytes from the client; a negative errno ends the session: take what
 * http2_output still has (it says why to the client), then free it. */
int http2_input(struct http2_session *c, const uint8_t *data, size_t size) NODISCARD;
/* Appends what is to be sent, until out holds about max bytes. */
int http2_output(struct http2_session *c, struct buffer *out, size_t max) NODISCARD;
/* What is to be sent is answers of pings only. Clients of gRPC-go's ping after
 * nearly every reply, beside their next request: an answer by itself would wake
 * them, and cost us a call, for nothing. So it may wait a moment for company. */
bool http2_can_wait(const struct http2_session *c);
/* Nothing more to send or to receive. */
bool http2_over(const struct http2_session *c);
/* Frames waiting to be taken; grows only when the client doesn't read. */
size_t http2_backlog(const struct http2_session *c);
/* No new streams from here on; open ones go on. The client may send the
 * others elsewhere. */
void http2_goaway(struct http2_session *c);

/* --- of a stream; none of them calls back into the caller but through
 * wants_output. After closed() none may be called. --- */

/* The response's status and fields; with end that is all of it. */
int http2_respond(struct http2_stream *s, const struct http2_field *fields, size_t n, bool end) NODISCARD;
/* Appends to the response's body; data is taken even on error. -ENOBUFS when
 * the client has left too much unread. */
int http2_send(struct http2_stream *s, struct buffer *data) NODISCARD;
const struct credentials *http2_peer(const struct http2_stream *s);
/* What of the body the client's windows haven't let through yet. */
size_t http2_unsent(const struct http2_stream *s);
/* The body is complete: the trailers follow it. */
void http2_finish(struct http2_stream *s);
/* Ends the stream abruptly: error is an HTTP/2 error code. */
enum http2_error {
	HTTP2_PROTOCOL_ERROR = 0x1,
	HTTP2_INTERNAL_ERROR = 0x2,
	HTTP2_CANCEL = 0x8,
};
void http2_reset(struct http2_stream *s, enum http2_error error);

/* From here on the client may send only as much of this stream as http2_consumed
 * has taken note of, beyond the window; other streams don't suffer. */
void http2_windows_by_hand(struct http2_stream *s);
void http2_consumed(struct http2_stream *s, size_t bytes);

/* Bytes that the stream's user keeps of its request, against the connection's
 * and the process's budget; false when they don't fit. Given back at closed(). */
bool http2_hold(struct http2_stream *s, size_t bytes);
void http2_release(struct http2_stream *s);
