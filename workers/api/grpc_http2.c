/*
 * Owns one struct http2_call per stream, from its header fields until the
 * stream is gone.
 *
 * Happy path: open (header fields), data (collect the message), end (the call
 * goes its way), then a reply or several, trailers, closed. A client that
 * resets its stream or vanishes cancels the call.
 */
#include "workers/api/grpc_http2.h"

#include "workers/api/fields.h"

#include <errno.h>
#include <stdio.h>

#define BACKLOG_MAX 1024 /* frames that a client may leave unread */

static struct http2_call *of(const struct grpc_call *c) {
	return container_of(c, struct http2_call, call);
}

/* --- replies --- */

static size_t status_fields(const struct http2_call *h, struct http2_field *ret_fields) {
	size_t n = 0;
	ret_fields[n++] = (struct http2_field){ "grpc-status", h->code_text };
	if (h->message)
		ret_fields[n++] = (struct http2_field){ "grpc-message", h->message };
	if (h->call.trailer)
		ret_fields[n++] = (struct http2_field){ h->call.trailer, h->call.trailer_text };
	return n;
}

/* The response's first fields; with end the status comes right with them. */
static int respond(struct http2_call *h, bool end) {
	struct http2_field fields[HTTP2_FIELDS_MAX] = {
		{ ":status", "200" },
		{ "content-type", "application/grpc" },
		{ "grpc-accept-encoding", "identity" },
	};
	size_t n = 3;
	if (end)
		n += status_fields(h, fields + n);
	h->responded = true;
	return http2_respond(h->stream, fields, n, end);
}

static int call_send(struct grpc_call *c, const struct msg_body *reply, bool more, struct fault *fault) {
	struct http2_call *h = of(c);
	struct buffer data CLEANUP_BUFFER = { 0 };
	size_t size = msg_body_size(reply);
	if (!h->responded && respond(h, false) < 0)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a reply");
	uint8_t *p = size <= UINT32_MAX ? buffer_reserve(&data, FRAME_PREFIX + size) : NULL;
	if (!p)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a reply of %zu bytes", size);
	frame_prefix(p, size);
	msg_body_pack(reply, p + FRAME_PREFIX);
	data.size = FRAME_PREFIX + size;
	int r = http2_send(h->stream, &data);
	if (r == -ENOBUFS)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "a reply of %zu bytes is ready, but too much is unread on this connection", size);
	if (r < 0)
		return fault_errno(fault, r, "send a reply of %zu bytes", size);
	return 0;
}

static size_t call_unsent(const struct grpc_call *c) {
	return http2_unsent(of(c)->stream);
}

static void call_release(struct grpc_call *c) {
	struct http2_call *h = of(c);
	stream_deinit(h);
	frame_deinit(&h->frame);
	http2_release(h->stream);
}

static void call_finish(struct grpc_call *c, const struct fault *fault) {
	struct http2_call *h = of(c);
	snprintf(h->code_text, sizeof(h->code_text), "%u", (unsigned)c->code & 0xff);
	if (fault) {
		h->message = malloc(strlen(fault->text) * 3 + 1);
		if (h->message)
			field_encode_message(fault->text, h->message);
	}
	if (h->responded)
		http2_finish(h->stream);
	else if (respond(h, true) < 0)
		http2_reset(h->stream, HTTP2_INTERNAL_ERROR);
}

static void call_ready(struct grpc_call *c) {
	stream_ready(of(c));
}

static const struct grpc_carrier carrier = {
	.send = call_send,
	.unsent = call_unsent,
	.release = call_release,
	.finish = call_finish,
	.ready = call_ready,
};

/* --- the request --- */

/* 405 and 415 come without gRPC's fields: whoever sent this isn't gRPC. */
static void refuse(struct http2_call *h, const char *status) {
	const struct http2_field fields[] = { { ":status", status } };
	h->call.finished = true;
	if (http2_respond(h->stream, fields, 1, true) < 0)
		http2_reset(h->stream, HTTP2_INTERNAL_ERROR);
}

static int read_timeout(struct http2_call *h, const struct head *head, struct fault *fault) {
	const char *text = head_get(head, "grpc-timeout");
	int64_t ns;
	if (!text)
		return 0;
	if (field_timeout(text, &ns) < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "grpc-timeout \"%.32s\" isn't a time", text);
	return grpc_call_timeout(&h->call, ns, fault);
}

static const char *field_get(const void *head, const char *name) {
	return head_get(head, name);
}

static int prepare(struct http2_call *h, const struct head *head, struct fault *fault) {
	struct grpc_call *c = &h->call;
	int r = read_timeout(h, head, fault);
	if (r == 0)
		r = grpc_call_headers(c, field_get, head, fault);
	if (r < 0)
		return r;
	h->frame.limit = grpc_call_limit(c);
	if (handler_of(c) && handler_of(c)->client_streams)
		http2_windows_by_hand(h->stream);
	return handler_open(c, fault);
}

static void begin(struct http2_call *h, const struct head *head) {
	struct fault fault;
	const char *path = head_get(head, ":path");
	if (head->verdict == HEAD_TOO_LARGE) {
		fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "the header list exceeds %d bytes or %d fields",
			  HEAD_SIZE_MAX, HEAD_FIELDS_MAX);
		grpc_call_finish(&h->call, NULL, &fault);
	} else if (strcmp(head_get(head, ":method"), "POST") != 0) {
		refuse(h, "405");
	} else if (!field_is_grpc(head_get(head, "content-type"))) {
		refuse(h, "415");
	} else if (grpc_call_route(&h->call, path, &fault) < 0) {
		grpc_call_finish(&h->call, path, &fault);
	} else if (prepare(h, head, &fault) < 0) {
		grpc_call_fail(&h->call, &fault);
	}
}

static void message_data(struct http2_call *h, const uint8_t *data, size_t size) {
	struct fault fault;
	int r;
	if (!http2_hold(h->stream, size))
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED,
			      "too many bytes of requests and unread replies are held already; try again");
	else
		r = frame_feed(&h->frame, data, size, &fault);
	if (r < 0)
		grpc_call_fail(&h->call, &fault);
}

static void message_end(struct http2_call *h) {
	struct fault fault;
	if (frame_finish(&h->frame, &fault) < 0)
		grpc_call_fail(&h->call, &fault);
	else
		grpc_call_request(&h->call, h->frame.body.data, h->frame.body.size);
}

/* --- what a session tells --- */

static void *on_open(void *owner, struct http2_stream *s, const struct head *head) {
	struct http2_call *h = calloc(1, sizeof(*h));
	if (!h)
		return NULL;
	grpc_call_init(&h->call, owner, &carrier, http2_peer(s));
	h->stream = s;
	begin(h, head);
	return h;
}

static bool is_stream(const struct http2_call *h) {
	return h->call.handler && handler_of(&h->call)->client_streams;
}

static void on_data(void *call, const uint8_t *data, size_t size) {
	struct http2_call *h = call;
	if (!h->call.finished)
		(is_stream(h) ? stream_data : message_data)(h, data, size);
}

static void on_end(void *call) {
	struct http2_call *h = call;
	if (!h->call.finished)
		(is_stream(h) ? stream_end : message_end)(h);
}

static size_t on_trailers(void *call, struct http2_field ret_fields[HTTP2_FIELDS_MAX]) {
	return status_fields(call, ret_fields);
}

static void on_room(void *call) {
	struct http2_call *h = call;
	handler_room(&h->call);
}

static void on_closed(void *call) {
	struct http2_call *h = call;
	grpc_call_deinit(&h->call);
	free(h->message);
	free(h);
}

static const struct http2_events events = {
	.open = on_open,
	.data = on_data,
	.end = on_end,
	.trailers = on_trailers,
	.room = on_room,
	.closed = on_closed,
};

/* --- the protocol --- */

static int session_open(const struct protocol_options *options, void **ret_session) {
	const struct http2_options with = {
		.events = &events,
		.owner = options->owner,
		.wants_output = options->wants_output,
		.ctx = options->ctx,
		.budget = options->budget,
		.peer = options->peer,
	};
	struct http2_session *session;
	int r = http2_session_new(&with, &session);
	if (r == 0)
		*ret_session = session;
	return r;
}

static void session_close(void *session) {
	http2_session_free(session);
}

static int session_input(void *session, const uint8_t *data, size_t size) {
	return http2_input(session, data, size);
}

static int session_output(void *session, struct buffer *out, size_t max) {
	return http2_output(session, out, max);
}

static bool session_can_wait(const void *session) {
	return http2_can_wait(session);
}

static bool session_over(const void *session) {
	return http2_over(session);
}

static bool session_clogged(const void *session) {
	return http2_backlog(session) > BACKLOG_MAX;
}

static void session_stop(void *session) {
	http2_goaway(session);
}

const struct protocol protocol_grpc = {
	.open = session_open,
	.close = session_close,
	.input = session_input,
	.output = session_output,
	.can_wait = session_can_wait,
	.over = session_over,
	.clogged = session_clogged,
	.stop = session_stop,
};
