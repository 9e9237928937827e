/*
 * Owns one struct ttrpc_stream per request, from its frame until its response
 * is queued. A call that has ended is freed a little later, since whoever ended
 * it may still look at it.
 */
#include "workers/api/ttrpc.h"

#include "ttrpc/ttrpc.pb-c.h"
#include "workers/api/fields.h"

struct ttrpc_stream {
	struct list node;
	struct grpc_call call;
	struct ttrpc_session *session;
	uint32_t id;
	struct buffer reply;
};

static struct ttrpc_stream *of(const struct grpc_call *c) {
	return container_of(c, struct ttrpc_stream, call);
}

/* --- the response --- */

static int call_send(struct grpc_call *c, const struct msg_body *reply, bool more, struct fault *fault) {
	struct ttrpc_stream *t = of(c);
	size_t size = msg_body_size(reply);
	if (more)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "a stream of replies isn't served over ttrpc");
	if (size > TTRPC_DATA_MAX - TTRPC_HEADER)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "a reply of %zu bytes is ready, but ttrpc's limit is %u", size, TTRPC_DATA_MAX);
	if (!budget_take(&t->session->budget, size))
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "a reply of %zu bytes is ready, but too much is unread on this connection", size);
	uint8_t *p = buffer_reserve(&t->reply, size);
	if (!p) {
		budget_give(&t->session->budget, size);
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "no memory for a reply of %zu bytes", size);
	}
	msg_body_pack(reply, p);
	t->reply.size = size;
	return 0;
}

static size_t call_unsent(const struct grpc_call *c) {
	return 0;
}

/* The request was a frame, which its session has freed or will. */
static void call_release(struct grpc_call *c) {
}

static void call_finish(struct grpc_call *c, const struct fault *fault) {
	struct ttrpc_stream *t = of(c);
	struct ttrpc_session *s = t->session;
	ttrpc_respond(s, t->id, fault, &t->reply);
	buffer_deinit(&t->reply);
	list_unlink(&t->node);
	list_append(&s->ended, &t->node);
	s->n_streams--;
}

static const struct grpc_carrier carrier = {
	.send = call_send,
	.unsent = call_unsent,
	.release = call_release,
	.finish = call_finish,
};

/* --- the request --- */

static const char *field_get(const void *request, const char *name) {
	const Ttrpc__Request *q = request;
	for (size_t i = 0; i < q->n_metadata; i++)
		if (strcmp(q->metadata[i]->key, name) == 0)
			return q->metadata[i]->value;
	return NULL;
}

/* As the method's table says; a handler that streams its replies shows it by
 * the first of them. */
static bool is_unary(const struct grpc_call *c) {
	return !(c->row && c->row->stream) && !(handler_of(c) && handler_of(c)->client_streams);
}

static int prepare(struct grpc_call *c, const Ttrpc__Request *q, struct fault *fault) {
	int r = 0;
	if (!is_unary(c))
		return fault_set(fault, FAULT_UNIMPLEMENTED, "a stream isn't served over ttrpc");
	if (q->payload.len > grpc_call_limit(c))
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the request has %zu bytes, the limit is %zu",
				 q->payload.len, grpc_call_limit(c));
	if (q->timeout_nano != 0)
		r = grpc_call_timeout(c, MIN(q->timeout_nano, FIELD_TIMEOUT_MAX), fault);
	if (r == 0)
		r = grpc_call_headers(c, field_get, q, fault);
	return r < 0 ? r : handler_open(c, fault);
}

static void begin(struct grpc_call *c, struct arena *arena, const Ttrpc__Request *q) {
	struct fault fault;
	const char *path = arena_printf(arena, "/%s/%s", q->service, q->method);
	if (!path)
		grpc_failf(c, FAULT_RESOURCE_EXHAUSTED, "no memory for the request");
	else if (grpc_call_route(c, path, &fault) < 0)
		grpc_call_finish(c, path, &fault);
	else if (prepare(c, q, &fault) < 0)
		grpc_call_fail(c, &fault);
	else
		grpc_call_request(c, q->payload.data, q->payload.len);
}

static struct ttrpc_stream *stream_new(struct ttrpc_session *s, uint32_t id) {
	struct ttrpc_stream *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	grpc_call_init(&t->call, s->options.owner, &carrier, &s->options.peer);
	t->session = s;
	t->id = id;
	list_append(&s->streams, &t->node);
	s->n_streams++;
	return t;
}

static bool is_question(const struct ttrpc_session *s, const Ttrpc__Request *q) {
	return s->options.line && strncmp(q->service, TTRPC_LINE_SERVICE, strlen(TTRPC_LINE_SERVICE)) == 0;
}

/* Whether we are who the client has begun with: if not, it would wait for ever for
 * what the worker before this one was asked. It comes every few seconds, so no log
 * line is due. */
static void question_answer(struct ttrpc_session *s, uint32_t id, const Ttrpc__Request *q) {
	if (s->met)
		ttrpc_answer(s, id, FAULT_UNIMPLEMENTED, "unknown service %.80s", q->service);
	else
		ttrpc_answer(s, id, FAULT_UNAVAILABLE, TTRPC_LINE_ANEW);
}

void ttrpc_stream_begin(struct ttrpc_session *s, uint32_t id, const uint8_t *data, size_t size) {
	struct arena arena;
	arena_init(&arena, msg_decoded_limit(size));
	const Ttrpc__Request *q = (const Ttrpc__Request *)msg_decode(&ttrpc__request__descriptor, &arena, data, size);
	struct ttrpc_stream *t = q && !is_question(s, q) ? stream_new(s, id) : NULL;
	if (!q)
		ttrpc_answer(s, id, FAULT_INVALID_ARGUMENT, "its data isn't a valid ttrpc.Request");
	else if (is_question(s, q))
		question_answer(s, id, q);
	else if (!t)
		ttrpc_answer(s, id, FAULT_RESOURCE_EXHAUSTED, "no memory for a call");
	else
		begin(&t->call, &arena, q);
	arena_deinit(&arena);
}

/* --- streams --- */

struct ttrpc_stream *ttrpc_stream_find(const struct ttrpc_session *s, uint32_t id) {
	list_for_each (it, &s->streams) {
		struct ttrpc_stream *t = list_entry(it, struct ttrpc_stream, node);
		if (t->id == id)
			return t;
	}
	return NULL;
}

void ttrpc_stream_data(struct ttrpc_stream *t) {
	grpc_failf(&t->call, FAULT_INVALID_ARGUMENT, "stream %u: data came for a call that takes none", t->id);
}

void ttrpc_stream_cancel(struct ttrpc_stream *t) {
	grpc_failf(&t->call, FAULT_CANCELLED, "stream %u: its client has cancelled it", t->id);
}

static void stream_free(struct ttrpc_stream *t) {
	list_unlink(&t->node);
	grpc_call_deinit(&t->call);
	buffer_deinit(&t->reply);
	free(t);
}

void ttrpc_streams_free(struct ttrpc_session *s, bool all) {
	list_for_each_safe (it, &s->ended)
		stream_free(list_entry(it, struct ttrpc_stream, node));
	list_for_each_safe (it, &s->streams)
		if (all)
			stream_free(list_entry(it, struct ttrpc_stream, node));
}
