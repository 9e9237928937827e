/*
 * Owns one struct ttrpc_call from when it is made until it is answered, given up
 * or failed; then it is freed before done is called, so that done may do
 * anything.
 */
#include "ttrpc/internal.h"

#include "base/clock.h"
#include "msg/msg.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define PENDING_MAX 4096
#define HELD_MAX (16u << 20)

struct ttrpc_call {
	struct list node;
	struct ttrpc_client *client;
	const ProtobufCServiceDescriptor *service;
	const ProtobufCMethodDescriptor *method;
	ttrpc_done_fn done;
	void *ctx;
	uint32_t stream; /* 0: none yet */
	struct buffer payload;
	int64_t deadline; /* 0: none */
	struct loop_source *timer;
	struct fault *refusal; /* it was never begun */
};

/* --- the end of a call --- */

/* What is left of a call is what done needs. */
static void call_free(struct ttrpc_call *q) {
	struct ttrpc_client *c = q->client;
	list_unlink(&q->node);
	c->n_pending--;
	c->held -= q->payload.size;
	loop_source_free(q->timer);
	buffer_deinit(&q->payload);
	free(q->refusal);
	free(q);
}

static void call_finish(struct ttrpc_call *q, const ProtobufCMessage *reply, const struct fault *fault) {
	ttrpc_done_fn done = q->done;
	void *ctx = q->ctx;
	call_free(q);
	done(ctx, reply, fault);
}

static void call_fail(struct ttrpc_call *q, enum fault_code code, const char *format, ...) PRINTF(3, 4);
static void call_fail(struct ttrpc_call *q, enum fault_code code, const char *format, ...) {
	char text[256];
	struct fault fault;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, code, "%s/%s: %s", q->service->name, q->method->name, text);
	call_finish(q, NULL, &fault);
}

static void expired(void *ctx) {
	struct ttrpc_call *q = ctx;
	call_fail(q, FAULT_DEADLINE_EXCEEDED, "the server has not answered in time");
}

void ttrpc_call_cancel(struct ttrpc_call *q) {
	if (!q)
		return;
	struct ttrpc_client *c = q->client;
	if (q->stream && c->options.cancels)
		ttrpc_client_cancel(c, q->stream);
	call_free(q);
}

/* Its callback may free the client, and with it what is in the client's lists. */
static void fail_first(const struct list *calls, const struct fault *fault) {
	struct fault f = *fault;
	struct ttrpc_call *q = list_entry(calls->next, struct ttrpc_call, node);
	fault_prefix(&f, 0, "%s/%s", q->service->name, q->method->name);
	call_finish(q, NULL, &f);
}

void ttrpc_calls_fail(struct ttrpc_client *c, const struct fault *fault) {
	/* Calls that are made meanwhile are refused, and so not among these. */
	while (!list_empty(&c->lost) || !list_empty(&c->sent) || !list_empty(&c->unsent))
		fail_first(!list_empty(&c->lost) ? &c->lost : !list_empty(&c->sent) ? &c->sent : &c->unsent, fault);
}

void ttrpc_calls_lose(struct ttrpc_client *c, const struct fault *fault) {
	for (struct list *n; (n = list_pop(&c->sent));)
		list_append(&c->lost, n);
	while (!list_empty(&c->lost))
		fail_first(&c->lost, fault);
}

static void free_all(struct list *calls) {
	while (!list_empty(calls))
		call_free(list_entry(calls->next, struct ttrpc_call, node));
}

void ttrpc_calls_free(struct ttrpc_client *c) {
	free_all(&c->unsent);
	free_all(&c->sent);
	free_all(&c->lost);
	free_all(&c->refused);
}

/* --- its request --- */

static Ttrpc__Request request_of(const struct ttrpc_call *q, int64_t timeout) {
	Ttrpc__Request r = TTRPC__REQUEST__INIT;
	r.service = (char *)(uintptr_t)q->service->name;
	r.method = (char *)(uintptr_t)q->method->name;
	r.payload = (ProtobufCBinaryData){ .data = q->payload.data, .len = q->payload.size };
	r.timeout_nano = timeout;
	return r;
}

/* What is left of its time, which may have waited for the line. */
static int64_t time_left(const struct ttrpc_call *q) {
	return q->deadline ? MAX(q->deadline - clock_mono(), 1) : 0;
}

bool ttrpc_call_next(struct ttrpc_client *c) {
	if (list_empty(&c->unsent))
		return false;
	struct ttrpc_call *q = list_entry(c->unsent.next, struct ttrpc_call, node);
	const Ttrpc__Request r = request_of(q, time_left(q));
	q->stream = (uint32_t)c->next;
	c->next += 2;
	ttrpc_client_request(c, q->stream, &r.base);
	c->held -= q->payload.size;
	buffer_deinit(&q->payload);
	list_unlink(&q->node);
	list_append(&c->sent, &q->node);
	return true;
}

/* --- its reply --- */

/* A code of gRPC's, whatever the server has said. */
static enum fault_code code_of(int32_t code) {
	return code > FAULT_NONE && code <= FAULT_UNAUTHENTICATED ? (enum fault_code)code : FAULT_UNKNOWN;
}

static void reply_came(struct ttrpc_call *q, struct arena *arena, const Ttrpc__Response *response) {
	const ProtobufCMessageDescriptor *type = q->method->output;
	const Google__Rpc__Status *status = response->status;
	if (status && status->code != FAULT_NONE) {
		struct fault fault;
		fault_set(&fault, code_of(status->code), "%s", status->message);
		call_finish(q, NULL, &fault);
		return;
	}
	const ProtobufCMessage *reply = msg_decode(type, arena, response->payload.data, response->payload.len);
	if (reply)
		call_finish(q, reply, NULL);
	else
		call_fail(q, FAULT_INTERNAL, "the reply is no %s", type->name);
}

static struct ttrpc_call *find(struct ttrpc_client *c, uint32_t stream) {
	list_for_each (it, &c->sent) {
		struct ttrpc_call *q = list_entry(it, struct ttrpc_call, node);
		if (q->stream == stream)
			return q;
	}
	return NULL;
}

bool ttrpc_call_response(struct ttrpc_client *c, uint32_t stream, const uint8_t *data, size_t size) {
	struct ttrpc_call *q = find(c, stream);
	struct arena arena;
	if (!q && !c->options.line)
		return true; /* nobody waits for it any more */
	arena_init(&arena, msg_decoded_limit(size));
	const Ttrpc__Response *response =
	    (const Ttrpc__Response *)msg_decode(&ttrpc__response__descriptor, &arena, data, size);
	bool good = response != NULL;
	if (good && ttrpc_line_anew(c, response->status))
		ttrpc_line_lost(c, response->status);
	else if (good && q)
		reply_came(q, &arena, response);
	arena_deinit(&arena);
	return good || !q;
}

/* --- its beginning --- */

static int check(const struct ttrpc_call *q, struct fault *fault) {
	const struct ttrpc_client *c = q->client;
	if (!q->method)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "the service has no such method");
	const Ttrpc__Request r = request_of(q, q->deadline ? INT64_MAX : 0);
	size_t size = ttrpc__request__get_packed_size(&r);
	if (size > TTRPC_DATA_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the request has %zu bytes, ttrpc's limit is %u",
				 size, TTRPC_DATA_MAX);
	if (c->over)
		return fault_set(fault, FAULT_UNAVAILABLE, "the connection has ended");
	if (c->n_pending > PENDING_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "%d calls are pending", PENDING_MAX);
	if (c->held > HELD_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "requests of more than %u bytes wait to be sent",
				 HELD_MAX);
	if (c->next + 2 * c->n_pending > UINT32_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the connection has had all streams that there are");
	return 0;
}

static void refused(void *ctx) {
	struct ttrpc_call *q = ctx;
	struct fault *fault CLEANUP_FREE = take_ptr(q->refusal);
	call_finish(q, NULL, fault);
}

/* Told in the loop's next turn, as all that fails is told from the loop. */
static int refuse(struct ttrpc_call *q, struct fault *fault, const char *method) {
	fault_prefix(fault, 0, "%s/%s", q->service->name, method);
	q->refusal = malloc(sizeof(*fault));
	if (!q->refusal)
		return -ENOMEM;
	*q->refusal = *fault;
	list_append(&q->client->refused, &q->node);
	return loop_defer(q->client->options.loop, refused, q, &q->timer);
}

static int payload_pack(struct ttrpc_call *q, const ProtobufCMessage *request) {
	size_t size = protobuf_c_message_get_packed_size(request);
	uint8_t *p = buffer_reserve(&q->payload, size);
	if (!p)
		return -ENOMEM;
	q->payload.size = protobuf_c_message_pack(request, p);
	q->client->held += q->payload.size;
	return 0;
}

static int begin(struct ttrpc_call *q, const char *method, const ProtobufCMessage *request, int64_t timeout_ns) {
	struct ttrpc_client *c = q->client;
	struct fault fault;
	int64_t now = clock_mono();
	if (timeout_ns != 0)
		q->deadline = timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
	int r = payload_pack(q, request);
	if (r < 0)
		return r;
	if (check(q, &fault) < 0)
		return refuse(q, &fault, method);
	if (q->deadline)
		r = loop_timer(c->options.loop, q->deadline, expired, q, &q->timer);
	if (r == 0)
		r = ttrpc_client_flush(c);
	if (r == 0)
		list_append(&c->unsent, &q->node);
	return r;
}

int ttrpc_call(struct ttrpc_client *c, const ProtobufCServiceDescriptor *service, const char *method,
	       const ProtobufCMessage *request, int64_t timeout_ns, ttrpc_done_fn done, void *ctx,
	       struct ttrpc_call **ret_call) {
	struct ttrpc_call *q = malloc(sizeof(*q));
	if (!q)
		return -ENOMEM;
	*q = (struct ttrpc_call){ .client = c, .service = service, .done = done, .ctx = ctx };
	q->method = protobuf_c_service_descriptor_get_method_by_name(service, method);
	list_init(&q->node);
	c->n_pending++;
	int r = begin(q, method, request, timeout_ns);
	if (r < 0) {
		call_free(q);
		return r;
	}
	if (ret_call)
		*ret_call = q;
	return 0;
}
