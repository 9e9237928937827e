/* The asking side: calls that wait for their answer. */
#include "msg/internal.h"

#include "base/clock.h"
#include "base/fd.h"

#include <stdarg.h>
#include <stdio.h>

static void call_unlink(struct msg_call *c) {
	if (c->prev) {
		*c->prev = c->next;
		if (c->next)
			c->next->prev = c->prev;
		c->prev = NULL;
	}
	list_unlink(&c->order);
	loop_source_free_p(&c->timer);
	trial_ended(c);
}

static void call_free(struct msg_call *c) {
	call_unlink(c);
	buffer_deinit(&c->payload);
	free(c->fault);
	free(c);
}

static void failures_run(void *ctx) {
	struct link *l = ctx;
	loop_source_free_p(&l->fail_later);
	/* A callback may make new calls, which may fail: those come next time. */
	struct list batch;
	list_init(&batch);
	struct list *n;
	while ((n = list_pop(&l->failed)))
		list_append(&batch, n);
	while ((n = list_pop(&batch))) {
		struct msg_call *c = list_entry(n, struct msg_call, order);
		struct msg_answer answer = { .fault = c->fault };
		msg_done_fn done = c->done;
		c->done = NULL;
		if (done)
			done(c->ctx, &answer);
		call_free(c);
	}
}

/* The callback comes from the loop, never from within the caller. */
void link_call_fail(struct msg_call *c, enum fault_code code, const char *format, ...) {
	struct link *l = c->link;
	call_unlink(c);
	char text[FAULT_TEXT_MAX];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	c->fault = calloc(1, sizeof(*c->fault));
	if (!c->fault)
		abort(); /* a caller that is never answered would be worse */
	fault_set(c->fault, code, "%s", text);
	list_append(&l->failed, &c->order);
	if (!l->fail_later && loop_defer(l->options.loop, failures_run, l, &l->fail_later) < 0)
		abort();
}

static void cancel_tell(struct msg_call *c) {
	struct frame f = { .number = c->row->number, .kind = FRAME_CANCEL, .id = c->id };
	if (c->sent)
		transport_send(c->link, &f, NULL, NULL, 0);
}

static void deadline_passed(void *ctx) {
	struct msg_call *c = ctx;
	cancel_tell(c);
	link_call_fail(c, FAULT_DEADLINE_EXCEEDED, "the deadline passed while the %s worker was at %s",
		       role_name(c->link->options.peer), c->row->name);
}

int link_call_send(struct msg_call *c, const int *fds, size_t n_fds) {
	struct frame f = {
		.size = (uint32_t)c->payload.size,
		.number = c->row->number,
		.kind = FRAME_REQUEST,
		.flags = c->again ? FRAME_AGAIN : 0,
		.id = c->id,
		.deadline = c->context.deadline,
		.trace = { c->context.trace[0], c->context.trace[1] },
		.request = c->context.request,
	};
	int r = transport_send(c->link, &f, c->payload.data, fds, n_fds);
	if (r < 0)
		return r;
	c->sent = true;
	c->sent_at = clock_mono();
	if (!c->row->resend)
		buffer_deinit(&c->payload);
	return 0;
}

bool link_call_waits(const struct msg_call *c, int error) {
	return c->row->resend && (error == -EPIPE || error == -ECONNRESET || error == -ENOTCONN);
}

static void call_begin(struct msg_call *c, const ProtobufCMessage *request, const int *fds, size_t n_fds) {
	struct link *l = c->link;
	if (c->row->access > l->options.access) {
		link_call_fail(c, FAULT_PERMISSION_DENIED, "endpoint \"%s\" %s: %s isn't served", link_endpoint(l),
			       link_access_phrase(l->options.access), c->row->name);
		return;
	}
	size_t size = protobuf_c_message_get_packed_size(request);
	if (!msg_row_fds(c->row, n_fds)) {
		link_call_fail(c, FAULT_INTERNAL, "%s: %zu descriptors aren't what goes with it", c->row->name, n_fds);
		return;
	}
	if (size > c->row->limit) {
		link_call_fail(c, FAULT_RESOURCE_EXHAUSTED, "%s: a request of %zu bytes exceeds the limit of %zu",
			       c->row->name, size, c->row->limit);
		return;
	}
	uint8_t *p = buffer_reserve(&c->payload, size + 1);
	if (!p || (c->context.deadline &&
		   loop_timer(l->options.loop, c->context.deadline, deadline_passed, c, &c->timer) < 0)) {
		link_call_fail(c, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", c->row->name);
		return;
	}
	c->payload.size = protobuf_c_message_pack(request, p);
	/* The peer would take it for an attack, and a message that is sent again would be one without end. */
	if (!msg_wire_valid(request->descriptor, p, size)) {
		link_call_fail(c, FAULT_INVALID_ARGUMENT, "%s: a text in it isn't UTF-8", c->row->name);
		return;
	}
	if (!l->attached && c->row->resend)
		return; /* waits for the peer */
	int r = link_call_send(c, fds, n_fds);
	if (link_call_waits(c, r))
		return;
	if (r == -ENOTCONN)
		link_call_fail(c, FAULT_UNAVAILABLE, "%s: the %s worker isn't running at this moment, try again",
			       c->row->name, role_name(l->options.peer));
	else if (r < 0)
		link_call_fail(c, FAULT_UNAVAILABLE, "%s: send to the %s worker: %s", c->row->name,
			       role_name(l->options.peer), strerrordesc_np(-r));
	else if (!c->row->reply)
		call_free(c);
}

static struct msg_call *call_new(struct link *l, uint16_t number, const struct msg_context *context, msg_done_fn done,
				 void *ctx) {
	struct msg_call *c = calloc(1, sizeof(*c));
	if (!c)
		abort(); /* see call_fail */
	c->link = l;
	c->row = msg_row_find(number);
	c->done = done;
	c->ctx = ctx;
	c->id = ++l->next_id;
	if (context)
		c->context = *context;
	struct msg_call **slot = &l->calls[c->id % CALL_SLOTS];
	c->next = *slot;
	c->prev = slot;
	if (c->next)
		c->next->prev = &c->next;
	*slot = c;
	list_append(&l->order, &c->order);
	return c;
}

struct msg_call *msg_send(struct link *l, uint16_t number, const struct msg_context *context,
			  const ProtobufCMessage *request, const int *fds, size_t n_fds, msg_done_fn done, void *ctx) {
	struct msg_call *c = call_new(l, number, context, done, ctx);
	bool expects = c->row->reply != NULL;
	call_begin(c, request, fds, n_fds);
	return expects ? c : NULL;
}

struct msg_call *msg_send_opaque(struct link *l, uint16_t number, const struct msg_context *context,
				 const ProtobufCMessage *request, msg_done_fn done, void *ctx) {
	struct msg_call *c = call_new(l, number, context, done, ctx);
	bool expects = c->row->reply != NULL;
	c->opaque = true;
	call_begin(c, request, NULL, 0);
	return expects ? c : NULL;
}

void msg_cancel(struct msg_call *c) {
	if (!c)
		return;
	if (!c->fault)
		cancel_tell(c);
	call_free(c);
}

static struct msg_call *call_find(struct link *l, uint64_t id) {
	for (struct msg_call *c = l->calls[id % CALL_SLOTS]; c; c = c->next)
		if (c->id == id)
			return c;
	return NULL;
}

static void call_failed_by_peer(struct msg_call *c, const struct frame *f, const uint8_t *payload) {
	struct fault fault;
	enum fault_code code = f->code > 0 && f->code <= FAULT_UNAUTHENTICATED ? f->code : FAULT_UNKNOWN;
	fault_set(&fault, code, "%.*s", (int)MIN(f->size, (uint32_t)FAULT_TEXT_MAX), (const char *)payload);
	struct msg_answer answer = { .fault = &fault };
	msg_done_fn done = c->done;
	void *ctx = c->ctx;
	call_free(c);
	if (done)
		done(ctx, &answer);
}

static void call_succeeded(struct msg_call *c, const struct msg_answer *answer) {
	msg_done_fn done = c->done;
	void *ctx = c->ctx;
	if (!answer->more)
		call_free(c);
	if (done)
		done(ctx, answer);
}

static void decode_answer(struct msg_call *c, uint32_t size, const uint8_t *payload, struct msg_answer *answer) {
	struct link *l = c->link;
	struct arena arena;
	arena_init(&arena, (size_t)1024 * 1024 + 24 * (size_t)size);
	answer->reply = msg_decode(c->row->reply, &arena, payload, size);
	if (answer->reply)
		call_succeeded(c, answer);
	else
		link_lost(l, true, "%s: malformed answer of %u bytes", c->row->name, size);
	arena_deinit(&arena);
}

void call_answered(struct link *l, const struct frame *f, const uint8_t *payload, int *fds, size_t n_fds) {
	struct msg_call *c = call_find(l, f->id);
	if (!c)
		return; /* cancelled meanwhile */
	if (c->row->number != f->number || !c->sent || ((f->flags & FRAME_MORE) && !c->row->stream)) {
		link_lost(l, true, "answer to %s that wasn't asked", c->row->name);
		return;
	}
	l->answered = MAX(l->answered, c->sent_at);
	if (f->kind == FRAME_ERROR) {
		call_failed_by_peer(c, f, payload);
		return;
	}
	struct msg_answer answer = { .fds = n_fds ? fds : NULL, .more = f->flags & FRAME_MORE };
	if (c->opaque) {
		answer.packed = (struct msg_body){ .data = payload, .size = f->size };
		call_succeeded(c, &answer);
	} else {
		decode_answer(c, f->size, payload, &answer);
	}
}

/* The callbacks still come: whoever waits must learn it. */
void calls_free(struct link *l) {
	l->trial = NULL;
	loop_source_free_p(&l->trial_timer);
	list_for_each_safe (n, &l->order)
		link_call_fail(list_entry(n, struct msg_call, order), FAULT_UNAVAILABLE, "the %s worker is gone",
			       role_name(l->options.peer));
	if (l->fail_later)
		failures_run(l);
}
