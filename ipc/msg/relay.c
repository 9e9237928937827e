#include "msg/relay.h"

static void relay_cancelled(struct msg_request *r, void *ctx) {
	struct msg_relay *x = ctx;
	if (x->outlives_caller && !link_attached(r->link))
		return;
	msg_cancel(x->call);
	msg_failf(r, FAULT_CANCELLED, "the caller has given up");
}

struct msg_relay *msg_relay_new(struct msg_request *r, size_t n_fds) {
	struct msg_relay *x = arena_zalloc(&r->arena, sizeof(*x));
	if (!x) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return NULL;
	}
	x->request = r;
	x->n_fds = n_fds;
	r->cancelled = relay_cancelled;
	r->cancelled_ctx = x;
	return x;
}

void msg_relay_done(void *ctx, const struct msg_answer *a) {
	struct msg_relay *x = ctx;
	if (!a->more)
		x->request->cancelled = NULL;
	if (a->fault)
		msg_fail(x->request, a->fault);
	else
		msg_reply(x->request, a->reply, a->fds, x->n_fds, a->more);
}
