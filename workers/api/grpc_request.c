/*
 * A request until it is on its way: whether its client may make it, deadline
 * and trace, its one message, the row that carries it.
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

size_t grpc_call_limit(const struct grpc_call *c) {
	if (c->target.method->handler)
		return GRPC_MESSAGE_MAX;
	return c->row ? MIN(c->row->limit, GRPC_MESSAGE_MAX) : LOCAL_REQUEST_MAX;
}

int grpc_call_route(struct grpc_call *c, const char *path, struct fault *fault) {
	const struct boot_endpoint *e = c->server->endpoint;
	int r = policy_client(e, &c->peer, fault);
	if (r == 0)
		r = grpc_resolve(c->server, path, &c->target, fault);
	if (r == 0)
		r = policy_method(e, c->target.method, fault);
	if (r == 0 && c->target.method->number)
		c->row = msg_row_find(c->target.method->number);
	return r;
}

int grpc_call_timeout(struct grpc_call *c, int64_t ns, struct fault *fault) {
	c->context.deadline = c->begun + ns;
	if (ns <= 0)
		return fault_set(fault, FAULT_DEADLINE_EXCEEDED, "the deadline had passed when the request came");
	if (c->target.method->answer)
		return 0;
	int r = loop_timer(c->server->loop, c->context.deadline, deadline_passed, c, &c->deadline);
	return r < 0 ? fault_errno(fault, r, "watch the deadline") : 0;
}

int grpc_call_headers(struct grpc_call *c, const char *(*get)(const void *ctx, const char *name), const void *ctx,
		      struct fault *fault) {
	const char *const *wanted = c->target.service->headers;
	const char *traceparent = get(ctx, "traceparent");
	if (traceparent)
		field_traceparent(traceparent, c->context.trace);
	for (size_t i = 0; wanted && wanted[i] && i < GRPC_HEADERS_MAX; i++) {
		const char *value = get(ctx, wanted[i]);
		c->headers[i] = value ? arena_strdup(&c->arena, value) : NULL;
		if (value && !c->headers[i])
			return fault_errno(fault, ENOMEM, "read the header field %s", wanted[i]);
	}
	return 0;
}

static int decode(struct grpc_call *c, struct arena *arena, const uint8_t *data, size_t size,
		  ProtobufCMessage **ret_request, struct fault *fault) {
	const ProtobufCMessageDescriptor *type = grpc_input(&c->target);
	*ret_request = msg_decode(type, arena, data, size);
	if (*ret_request)
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "%zu bytes aren't a valid %s: cut short, a string that isn't UTF-8, or too many parts", size,
			 type->name);
}

/* The same request as the internal row has it. */
static int translate(struct grpc_call *c, struct arena *arena, ProtobufCMessage **request, struct fault *fault) {
	if (!c->target.method->translator)
		return 0;
	c->translation.arena = arena;
	c->translation.target = &c->target;
	c->translation.call = c;
	c->translation.kept = &c->arena;
	return c->target.method->translator->request(&c->translation, *request, request, fault);
}

/* What is the dialect's own message already goes to the client as it comes. */
static struct msg_call *send_row(struct grpc_call *c, const ProtobufCMessage *request) {
	struct link *metadata = c->server->metadata;
	uint16_t number = c->row->number;
	if (c->target.method->translator)
		return msg_send(metadata, number, &c->context, request, NULL, 0, grpc_call_answered, c);
	return msg_send_opaque(metadata, number, &c->context, request, grpc_call_answered, c);
}

/* Decoded it is on its own; what it came in isn't needed any more. */
static void dispatch(struct grpc_call *c, const ProtobufCMessage *request) {
	c->carrier->release(c);
	if (c->row) {
		c->call = send_row(c, request);
		loop_source_free_p(&c->deadline);
	} else if (c->handler) {
		handler_of(c)->message(c->handler, request);
	} else {
		c->target.method->answer(c, request);
	}
}

void grpc_call_request(struct grpc_call *c, const uint8_t *data, size_t size) {
	struct arena arena;
	struct fault fault;
	ProtobufCMessage *request;
	arena_init(&arena, msg_decoded_limit(size));
	if (decode(c, &arena, data, size, &request, &fault) < 0 || translate(c, &arena, &request, &fault) < 0)
		grpc_call_fail(c, &fault);
	else
		dispatch(c, request);
	arena_deinit(&arena);
}
