/*
 * Owns one struct grpc_call per stream, from its header fields until the
 * stream is gone.
 *
 * Happy path: open (resolve the path, read deadline and trace), data (collect
 * the message), end (decode, send to the metadata worker), answered (pack,
 * send, finish), closed. A call is finished exactly once, in finish(), which
 * also writes its log line; what comes afterwards is ignored.
 *
 * Failure: any fault finishes the call with its code and sentence. A client
 * that resets its stream or vanishes cancels the internal call. The deadline
 * is watched here until the request is complete and by the internal call then.
 */
#include "workers/api/grpc.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/api/fields.h"
#include "workers/api/frame.h"
#include "workers/api/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* A request that is answered here has little to say. */
#define LOCAL_REQUEST_MAX (64u << 10)
/* Decoded, a message may take this many times its bytes; arrays of empty
 * messages would take more. */
#define DECODED_FACTOR 16
#define DECODED_MAX (128u << 20)
#define DECODED_LEAST (64u << 10)
/* What a client of a stream of replies may leave unread. */
#define LAG_LATEST (64u << 10)
#define LAG_MAX (4u << 20)

struct grpc_call {
	struct grpc_server *server;
	struct http2_stream *stream;
	struct grpc_target target; /* method NULL: none was found */
	const struct msg_row *row;
	struct msg_context context;
	int64_t begun;
	struct frame frame;
	struct grpc_translation translation;
	struct msg_call *call;
	struct loop_source *deadline;
	bool responded, finished;
	enum fault_code code;
	char *message;	     /* encoded for grpc-message; NULL: none */
	const char *trailer; /* NULL: none */
	char trailer_text[16];
	void *duplex;
	size_t owed; /* received, and the client may not replace it yet */
	char code_text[4];
};

const struct grpc_service *grpc_call_service(const struct grpc_call *c) {
	return c->target.service;
}

const struct grpc_server *grpc_call_server(const struct grpc_call *c) {
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
	void *duplex = take_ptr(c->duplex);
	if (duplex)
		c->target.method->duplex->closed(duplex);
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
static int respond(struct grpc_call *c, bool end) {
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
static void finish(struct grpc_call *c, const char *path, const struct fault *fault) {
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
	else if (respond(c, true) < 0)
		http2_reset(c->stream, HTTP2_INTERNAL_ERROR);
}

void grpc_fail(struct grpc_call *c, const struct fault *fault) {
	finish(c, NULL, fault);
}

void grpc_failf(struct grpc_call *c, enum fault_code code, const char *format, ...) {
	char text[FAULT_TEXT_MAX];
	struct fault fault;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, code, "%s", text);
	finish(c, NULL, &fault);
}

/* A fault that this file found: the sentence begins with the method. */
static void fail_call(struct grpc_call *c, struct fault *fault) {
	fault_prefix(fault, 0, "%s", c->target.method->name);
	finish(c, NULL, fault);
}

static void deadline_passed(void *ctx) {
	struct grpc_call *c = ctx;
	grpc_failf(c, FAULT_DEADLINE_EXCEEDED,
		   "%s: the deadline passed after %" PRId64 " ms, before all of the request came",
		   c->target.method->name, (clock_mono() - c->begun) / NS_PER_MS);
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
	else if (!c->responded && respond(c, false) < 0)
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a reply");
	else
		r = send_message(c, reply, &fault);
	if (r < 0)
		fail_call(c, &fault);
	else if (!more)
		finish(c, NULL, NULL);
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

void grpc_trailer(struct grpc_call *c, const char *name, int value) {
	c->trailer = name;
	snprintf(c->trailer_text, sizeof(c->trailer_text), "%d", value);
}

void grpc_finish(struct grpc_call *c) {
	finish(c, NULL, NULL);
}

void grpc_ready(struct grpc_call *c) {
	size_t owed = c->owed;
	c->owed = 0;
	if (owed > 0 && !c->finished)
		http2_consumed(c->stream, owed);
}

/* What a translator leaves out of a stream is no reply, but may be its end. */
static void reply_translated(struct grpc_call *c, const ProtobufCMessage *internal, bool more) {
	struct arena arena;
	struct fault fault;
	ProtobufCMessage *reply = NULL;
	arena_init(&arena, 0);
	c->translation.arena = &arena;
	if (c->target.method->translator->reply(&c->translation, internal, &reply, &fault) < 0)
		fail_call(c, &fault);
	else if (reply)
		reply_part(c, reply, more);
	else if (!more)
		finish(c, NULL, NULL);
	arena_deinit(&arena);
}

static void answered(void *ctx, const struct msg_answer *answer) {
	struct grpc_call *c = ctx;
	if (!answer->more)
		c->call = NULL;
	if (answer->fault)
		finish(c, NULL, answer->fault);
	else if (c->target.method->translator)
		reply_translated(c, answer->reply, answer->more);
	else
		reply_part(c, answer->reply, answer->more);
}

/* --- requests --- */

static size_t request_limit(const struct grpc_call *c) {
	if (c->target.method->duplex)
		return GRPC_MESSAGE_MAX;
	return c->row ? MIN(c->row->limit, GRPC_MESSAGE_MAX) : LOCAL_REQUEST_MAX;
}

/* 405 and 415 come without gRPC's fields: whoever sent this isn't gRPC. */
static void refuse(struct grpc_call *c, const char *status) {
	const struct http2_field fields[] = { { ":status", status } };
	c->finished = true;
	if (http2_respond(c->stream, fields, 1, true) < 0)
		http2_reset(c->stream, HTTP2_INTERNAL_ERROR);
}

static int read_timeout(struct grpc_call *c, const struct head *head, struct fault *fault) {
	const char *text = head_get(head, "grpc-timeout");
	int64_t ns;
	if (!text)
		return 0;
	if (field_timeout(text, &ns) < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "grpc-timeout \"%.32s\" isn't a time", text);
	c->context.deadline = c->begun + ns;
	if (ns == 0)
		return fault_set(fault, FAULT_DEADLINE_EXCEEDED, "the deadline had passed when the request came");
	if (!c->row)
		return 0;
	int r = loop_timer(c->server->loop, c->context.deadline, deadline_passed, c, &c->deadline);
	return r < 0 ? fault_errno(fault, r, "watch the deadline") : 0;
}

static int duplex_open(struct grpc_call *c, struct fault *fault) {
	if (!c->target.method->duplex)
		return 0;
	http2_windows_by_hand(c->stream);
	c->duplex = c->target.method->duplex->open(c);
	return c->duplex ? 0 : fault_errno(fault, ENOMEM, "begin");
}

static void begin(struct grpc_call *c, const struct head *head) {
	struct fault fault;
	const char *path = head_get(head, ":path"), *traceparent = head_get(head, "traceparent");
	if (head->verdict == HEAD_TOO_LARGE) {
		fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "the header list exceeds %d bytes or %d fields",
			  HEAD_SIZE_MAX, HEAD_FIELDS_MAX);
		finish(c, NULL, &fault);
	} else if (strcmp(head_get(head, ":method"), "POST") != 0) {
		refuse(c, "405");
	} else if (!field_is_grpc(head_get(head, "content-type"))) {
		refuse(c, "415");
	} else if (policy_client(c->server->endpoint, http2_peer(c->stream), &fault) < 0 ||
		   grpc_resolve(c->server, path, &c->target, &fault) < 0 ||
		   policy_method(c->server->endpoint, c->target.method, &fault) < 0) {
		finish(c, path, &fault);
	} else {
		c->row = c->target.method->number ? msg_row_find(c->target.method->number) : NULL;
		c->frame.limit = request_limit(c);
		if (traceparent)
			field_traceparent(traceparent, c->context.trace);
		if (read_timeout(c, head, &fault) < 0 || duplex_open(c, &fault) < 0)
			fail_call(c, &fault);
	}
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
	begin(c, head);
	return c;
}

static int duplex_message(struct grpc_call *c, struct fault *fault) {
	const ProtobufCMessageDescriptor *type = c->target.types->input;
	struct arena arena;
	arena_init(&arena, MIN(DECODED_LEAST + c->frame.body.size * DECODED_FACTOR, DECODED_MAX));
	ProtobufCMessage *m = msg_decode(type, &arena, c->frame.body.data, c->frame.body.size);
	if (m)
		c->target.method->duplex->message(c->duplex, m);
	else
		fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu bytes aren't a valid %s", c->frame.body.size, type->name);
	arena_deinit(&arena);
	return m ? 0 : -EINVAL;
}

/* Messages one after the other. While they can't be taken the client's window
 * stays closed, so at most a window of bytes waits in here. */
static void duplex_data(struct grpc_call *c, const uint8_t *data, size_t size) {
	struct fault fault;
	int r = 0;
	c->owed += size;
	while (r == 0 && size > 0 && !c->finished) {
		size_t taken;
		r = frame_feed_one(&c->frame, data, size, &taken, &fault);
		data += taken;
		size -= taken;
		if (r < 0 || !frame_complete(&c->frame))
			continue;
		r = duplex_message(c, &fault);
		frame_next(&c->frame);
	}
	if (r < 0)
		fail_call(c, &fault);
	else if (!c->finished && !c->target.method->duplex->busy(c->duplex))
		grpc_ready(c);
}

static void call_data(void *call, const uint8_t *data, size_t size) {
	struct grpc_call *c = call;
	struct fault fault;
	int r;
	if (c->finished)
		return;
	if (c->duplex) {
		duplex_data(c, data, size);
		return;
	}
	if (!http2_hold(c->stream, size))
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED,
			      "too many bytes of requests and unread replies are held already; try again");
	else
		r = frame_feed(&c->frame, data, size, &fault);
	if (r < 0)
		fail_call(c, &fault);
}

static int decode(struct grpc_call *c, struct arena *arena, ProtobufCMessage **ret_request, struct fault *fault) {
	const ProtobufCMessageDescriptor *type = c->target.types->input;
	int r = frame_finish(&c->frame, fault);
	if (r < 0)
		return r;
	*ret_request = msg_decode(type, arena, c->frame.body.data, c->frame.body.size);
	if (*ret_request)
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "%zu bytes aren't a valid %s: cut short, a string that isn't UTF-8, or too many parts",
			 c->frame.body.size, type->name);
}

/* The same request as the internal row has it. */
static int translate(struct grpc_call *c, struct arena *arena, ProtobufCMessage **request, struct fault *fault) {
	if (!c->target.method->translator)
		return 0;
	c->translation.arena = arena;
	c->translation.service = c->target.service;
	return c->target.method->translator->request(&c->translation, *request, request, fault);
}

static void call_end(void *call) {
	struct grpc_call *c = call;
	struct arena arena;
	struct fault fault;
	ProtobufCMessage *request;
	if (c->finished)
		return;
	if (c->duplex) {
		if (c->frame.n_prefix > 0)
			grpc_failf(c, FAULT_INVALID_ARGUMENT, "%s: the request ended within a message",
				   c->target.method->name);
		else
			c->target.method->duplex->end(c->duplex);
		return;
	}
	arena_init(&arena, MIN(DECODED_LEAST + c->frame.body.size * DECODED_FACTOR, DECODED_MAX));
	if (decode(c, &arena, &request, &fault) < 0 || translate(c, &arena, &request, &fault) < 0) {
		fail_call(c, &fault);
	} else if (c->row) {
		c->call = msg_send(c->server->metadata, c->row->number, &c->context, request, NULL, 0, answered, c);
		loop_source_free_p(&c->deadline);
		frame_deinit(&c->frame);
		http2_release(c->stream);
	} else {
		c->target.method->answer(c, request);
	}
	arena_deinit(&arena);
}

static size_t call_trailers(void *call, struct http2_field ret_fields[HTTP2_FIELDS_MAX]) {
	return status_fields(call, ret_fields);
}

static void call_room(void *call) {
	struct grpc_call *c = call;
	if (c->duplex)
		c->target.method->duplex->room(c->duplex);
}

static void call_closed(void *call) {
	struct grpc_call *c = call;
	if (!c->finished) {
		c->code = FAULT_CANCELLED;
		let_go(c);
		log_line(c, NULL, "the client gave up");
	}
	free(c->translation.name);
	free(c->message);
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
