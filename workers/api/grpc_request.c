/*
 * A request until it is on its way: header fields, whether its client may make
 * it, deadline and trace, its one message, the row that carries it.
 *
 * The deadline is watched here until the request is complete, by the internal
 * call then; with a handler it is watched here until the end.
 */
#include "workers/api/grpc_private.h"

#include "base/clock.h"
#include "workers/api/fields.h"
#include "workers/api/policy.h"

#include <errno.h>
#include <inttypes.h>

/* A request that is answered here has little to say. */
#define LOCAL_REQUEST_MAX (64u << 10)

static void deadline_passed(void *ctx) {
	struct grpc_call *c = ctx;
	grpc_failf(c, FAULT_DEADLINE_EXCEEDED, "%s: the deadline passed after %" PRId64 " ms%s", c->target.method->name,
		   (clock_mono() - c->begun) / NS_PER_MS, c->handler ? "" : ", before all of the request came");
}

static size_t request_limit(const struct grpc_call *c) {
	if (c->target.method->handler)
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
	if (c->target.method->answer)
		return 0;
	int r = loop_timer(c->server->loop, c->context.deadline, deadline_passed, c, &c->deadline);
	return r < 0 ? fault_errno(fault, r, "watch the deadline") : 0;
}

static int read_headers(struct grpc_call *c, const struct head *head, struct fault *fault) {
	const char *const *wanted = c->target.service->headers;
	for (size_t i = 0; wanted && wanted[i] && i < GRPC_HEADERS_MAX; i++) {
		const char *value = head_get(head, wanted[i]);
		c->headers[i] = value ? arena_strdup(&c->arena, value) : NULL;
		if (value && !c->headers[i])
			return fault_errno(fault, ENOMEM, "read the header field %s", wanted[i]);
	}
	return 0;
}

void request_begin(struct grpc_call *c, const struct head *head) {
	struct fault fault;
	const char *path = head_get(head, ":path"), *traceparent = head_get(head, "traceparent");
	if (head->verdict == HEAD_TOO_LARGE) {
		fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "the header list exceeds %d bytes or %d fields",
			  HEAD_SIZE_MAX, HEAD_FIELDS_MAX);
		grpc_call_finish(c, NULL, &fault);
	} else if (strcmp(head_get(head, ":method"), "POST") != 0) {
		refuse(c, "405");
	} else if (!field_is_grpc(head_get(head, "content-type"))) {
		refuse(c, "415");
	} else if (policy_client(c->server->endpoint, http2_peer(c->stream), &fault) < 0 ||
		   grpc_resolve(c->server, path, &c->target, &fault) < 0 ||
		   policy_method(c->server->endpoint, c->target.method, &fault) < 0) {
		grpc_call_finish(c, path, &fault);
	} else {
		c->row = c->target.method->number ? msg_row_find(c->target.method->number) : NULL;
		c->frame.limit = request_limit(c);
		if (traceparent)
			field_traceparent(traceparent, c->context.trace);
		if (read_timeout(c, head, &fault) < 0 || read_headers(c, head, &fault) < 0 ||
		    handler_open(c, &fault) < 0)
			grpc_call_fail(c, &fault);
	}
}
void request_data(struct grpc_call *c, const uint8_t *data, size_t size) {
	struct fault fault;
	int r;
	if (!http2_hold(c->stream, size))
		r = fault_set(&fault, FAULT_RESOURCE_EXHAUSTED,
			      "too many bytes of requests and unread replies are held already; try again");
	else
		r = frame_feed(&c->frame, data, size, &fault);
	if (r < 0)
		grpc_call_fail(c, &fault);
}

static int decode(struct grpc_call *c, struct arena *arena, ProtobufCMessage **ret_request, struct fault *fault) {
	const ProtobufCMessageDescriptor *type = grpc_input(&c->target);
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
	c->translation.call = c;
	c->translation.kept = &c->arena;
	return c->target.method->translator->request(&c->translation, *request, request, fault);
}

/* Decoded it is on its own; what it came in isn't needed any more. */
static void dispatch(struct grpc_call *c, const ProtobufCMessage *request) {
	frame_deinit(&c->frame);
	http2_release(c->stream);
	if (c->row) {
		c->call =
		    msg_send(c->server->metadata, c->row->number, &c->context, request, NULL, 0, grpc_call_answered, c);
		loop_source_free_p(&c->deadline);
	} else if (c->handler) {
		handler_of(c)->message(c->handler, request);
	} else {
		c->target.method->answer(c, request);
	}
}

void request_end(struct grpc_call *c) {
	struct arena arena;
	struct fault fault;
	ProtobufCMessage *request;
	arena_init(&arena, decoded_limit(c->frame.body.size));
	if (decode(c, &arena, &request, &fault) < 0 || translate(c, &arena, &request, &fault) < 0)
		grpc_call_fail(c, &fault);
	else
		dispatch(c, request);
	arena_deinit(&arena);
}
