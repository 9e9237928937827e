/*
 * Owns one struct grpc_call per stream, from its header fields until the
 * stream is gone.
 *
 * Happy path: open (resolve the path, read deadline and trace), data (collect
 * the message), end (decode, send to the metadata worker), answered (pack,
 * send, finish), closed. A call is finished exactly once, in grpc_call_finish,
 * which also writes its log line; what comes afterwards is ignored.
 *
 * Failure: any fault finishes the call with its code and sentence. A client
 * that resets its stream or vanishes cancels the internal call.
 */
#include "workers/api/grpc_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/api/fields.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* What a client of a stream of replies may leave unread. */
#define LAG_LATEST (64u << 10)
#define LAG_MAX (4u << 20)
/* What a handler may keep in its call's arena. */
#define CALL_ARENA_MAX (1u << 20)

const struct grpc_service *grpc_call_service(const struct grpc_call *c) {
	return c->target.service;
}

struct grpc_server *grpc_call_server(const struct grpc_call *c) {
	return c->server;
}

/* --- the end of a call --- */

static void log_line(const struct grpc_call *c, const char *path, const char *error) {
	bool changes = c->target.method && c->target.method->changes;
	enum log_level level = c->code != FAULT_NONE || changes ? LOG_INFO : LOG_DEBUG;
	if (!log_enabled(level))
		return;
	const struct credentials *peer = http2_peer(c->stream);
	char request[20], ms[24], method[160], pid[12], uid[12], gid[12];
	snprintf(request, sizeof(request), "%" PRIx64, c->context.request);
	snprintf(ms, sizeof(ms), "%.3f", (double)(clock_mono() - c->begun) / (double)NS_PER_MS);
	snprintf(pid, sizeof(pid), "%d", (int)peer->pid);
	snprintf(uid, sizeof(uid), "%u", peer->uid);
	snprintf(gid, sizeof(gid), "%u", peer->gid);
	if (c->target.method)
		snprintf(method, sizeof(method), "/%s/%s", c->target.service->name, c->target.method->name);
	else
		snprintf(method, sizeof(method), "%s", path ? path : "");
	/* The pairs end at the first NULL. */
	log_event(level, "request", "req", request, "method", method, "code", fault_code_name(c->code), "ms", ms, "pid",
		  pid, "uid", uid, "gid", gid, error ? "error" : NULL, error, NULL);
}

/* No more work is done for the call; its stream may still be sending. */
static void let_go(struct grpc_call *c) {
	msg_cancel(take_ptr(c->call));
	handler_close(c);
	loop_source_free_p(&c->deadline);
	frame_deinit(&c->frame);
	http2_release(c->stream);
}

static size_t status_fields(struct grpc_call *c, struct http2_field *ret_fields) {
	size_t n = 0;
	ret_fields[n++] = (struct http2_field){ "grpc-status", c->code_text };
	if (c->message)
		ret_fields[n++] = (struct http2_field){ "grpc-message", c->message };
	if (c->trailer)
		ret_fields[n++] = (struct http2_field){ c->trailer, c->trailer_text };
	return n;
}

/* The response's first fields; with end the status comes right with them. */
int grpc_call_respond(struct grpc_call *c, bool end) {
	struct http2_field fields[HTTP2_FIELDS_MAX] = {
		{ ":status", "200" },
		{ "content-type", "application/grpc" },
		{ "grpc-accept-encoding", "identity" },
	};
	size_t n = 3;
	if (end)
		n += status_fields(c, fields + n);
	c->responded = true;
	return http2_respond(c->stream, fields, n, end);
}

/* path: of a method that isn't known; fault NULL: success. */
void grpc_call_finish(struct grpc_call *c, const char *path, const struct fault *fault) {
	if (c->finished)
		return;
	c->finished = true;
	c->code = fault ? fault->code : FAULT_NONE;
	snprintf(c->code_text, sizeof(c->code_text), "%u", (unsigned)c->code & 0xff);
	if (fault) {
		c->message = malloc(strlen(fault->text) * 3 + 1);
		if (c->message)
			field_encode_message(fault->text, c->message);
	}
	let_go(c);
	log_line(c, path, fault ? fault->text : NULL);
	if (c->responded)
		http2_finish(c->stream);
	else if (grpc_call_respond(c, true) < 0)
		http2_reset(c->stream, HTTP2_INTERNAL_ERROR);
}

void grpc_fail(struct grpc_call *c, const struct fault *fault) {
	grpc_call_finish(c, NULL, fault);
}

void grpc_failf(struct grpc_call *c, enum fault_code code, const char *format, ...) {
	char text[FAULT_TEXT_MAX];
	struct fault fault;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, code, "%s", text);
	grpc_call_finish(c, NULL, &fault);
}

void grpc_call_fail(struct grpc_call *c, struct fault *fault) {
	fault_prefix(fault, 0, "%s", c->target.method->name);
	grpc_call_finish(c, NULL, fault);
}
/* --- replies --- */

static int send_message(struct grpc_call *c, const ProtobufCMessage *reply, struct fault *fault) {
	struct buffer data CLEANUP_BUFFER = { 0 };
	size_t size = protobuf_c_message_get_packed_size(reply);
	uint8_t *p = size <= UINT32_MAX ? buffer_reserve(&data, FRAME_PREFIX + size) : NULL;
	if (!p)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a reply of %zu bytes", size);
	frame_prefix(p, size);
	protobuf_c_message_pack(reply, p + FRAME_PREFIX);
	data.size = FRAME_PREFIX + size;
	int r = http2_send(c->stream, &data);
	if (r == -ENOBUFS)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "a reply of %zu bytes is ready, but too much is unread on this connection", size);
	if (r < 0)
		return fault_errno(fault, r, "send a reply of %zu bytes", size);
	return 0;
}

static int reply_part(struct grpc_call *c, const ProtobufCMessage *reply, bool more) {
	struct fault fault;
	int r;
	if (c->finished)
		return -ECANCELED;
	if (more && c->target.method->latest && http2_unsent(c->stream) > LAG_LATEST)
		return 0;
	if (!c->target.method->list && http2_unsent(c->stream) > LAG_MAX)
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "the client leaves too many replies unread");
	else if (!c->responded && grpc_call_respond(c, false) < 0)
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a reply");
	else
		r = send_message(c, reply, &fault);
	if (r < 0)
		grpc_call_fail(c, &fault);
	else if (!more)
		grpc_call_finish(c, NULL, NULL);
	return r;
}

int grpc_reply(struct grpc_call *c, const ProtobufCMessage *reply) {
	return reply_part(c, reply, false);
}

int grpc_reply_part(struct grpc_call *c, const ProtobufCMessage *reply) {
	return reply_part(c, reply, true);
}

size_t grpc_unsent(const struct grpc_call *c) {
	return http2_unsent(c->stream);
}

const struct msg_context *grpc_call_context(const struct grpc_call *c) {
	return &c->context;
}

struct arena *grpc_call_arena(struct grpc_call *c) {
	return &c->arena;
}

const char *grpc_header(const struct grpc_call *c, const char *name) {
	const char *const *wanted = c->target.service->headers;
	for (size_t i = 0; wanted && wanted[i]; i++)
		if (strcmp(wanted[i], name) == 0)
			return c->headers[i];
	return NULL;
}

void grpc_trailer(struct grpc_call *c, const char *name, int value) {
	c->trailer = name;
	snprintf(c->trailer_text, sizeof(c->trailer_text), "%d", value);
}

void grpc_finish(struct grpc_call *c) {
	grpc_call_finish(c, NULL, NULL);
}

/* What a translator leaves out of a stream is no reply, but may be its end. */
static void reply_translated(struct grpc_call *c, const ProtobufCMessage *internal, bool more) {
	struct arena arena;
	struct fault fault;
	struct grpc_translation *t = &c->translation;
	arena_init(&arena, 0);
	t->arena = &arena;
	do {
		ProtobufCMessage *reply = NULL;
		t->more = false;
		if (c->target.method->translator->reply(t, internal, &reply, &fault) < 0)
			grpc_call_fail(c, &fault);
		else if (reply)
			reply_part(c, reply, more || t->more);
		else if (!more && !t->more)
			grpc_call_finish(c, NULL, NULL);
	} while (t->more && !c->finished);
	arena_deinit(&arena);
}

void grpc_call_answered(void *ctx, const struct msg_answer *answer) {
	struct grpc_call *c = ctx;
	if (!answer->more)
		c->call = NULL;
	if (answer->fault)
		grpc_call_finish(c, NULL, answer->fault);
	else if (c->target.method->translator)
		reply_translated(c, answer->reply, answer->more);
	else
		reply_part(c, answer->reply, answer->more);
}
static void *call_open(void *owner, struct http2_stream *s, const struct head *head) {
	struct grpc_server *server = owner;
	struct grpc_call *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->server = server;
	c->stream = s;
	c->begun = clock_mono();
	c->context.request = server->next_request++;
	arena_init(&c->arena, CALL_ARENA_MAX);
	request_begin(c, head);
	return c;
}
static void call_data(void *call, const uint8_t *data, size_t size) {
	struct grpc_call *c = call;
	if (c->finished)
		return;
	if (c->handler && handler_of(c)->client_streams)
		handler_data(c, data, size);
	else
		request_data(c, data, size);
}

static void call_end(void *call) {
	struct grpc_call *c = call;
	if (c->finished)
		return;
	if (c->handler && handler_of(c)->client_streams)
		handler_end(c);
	else
		request_end(c);
}

static size_t call_trailers(void *call, struct http2_field ret_fields[HTTP2_FIELDS_MAX]) {
	return status_fields(call, ret_fields);
}

static void call_room(void *call) {
	handler_room(call);
}

static void call_closed(void *call) {
	struct grpc_call *c = call;
	if (!c->finished) {
		c->code = FAULT_CANCELLED;
		let_go(c);
		log_line(c, NULL, "the client gave up");
	}
	if (c->translation.state_free)
		c->translation.state_free(c->translation.state);
	free(c->message);
	arena_deinit(&c->arena);
	free(c);
}

const struct http2_events grpc_events = {
	.open = call_open,
	.data = call_data,
	.end = call_end,
	.trailers = call_trailers,
	.room = call_room,
	.closed = call_closed,
};
