#include "workers/metadata/relay.h"

static void relay_cancelled(struct msg_request *r, void *ctx) {
	struct relay *x = ctx;
	msg_cancel(x->call);
	msg_failf(r, FAULT_CANCELLED, "the client has gone");
}

struct relay *relay_new(struct msg_request *r, size_t n_fds) {
	struct relay *x = arena_zalloc(&r->arena, sizeof(*x));
	if (!x) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	x->request = r;
	x->n_fds = n_fds;
	r->cancelled = relay_cancelled;
	r->cancelled_ctx = x;
	return x;
}

void relay_done(void *ctx, const struct msg_answer *a) {
	struct relay *x = ctx;
	x->request->cancelled = NULL;
	if (a->fault)
		msg_fail(x->request, a->fault);
	else
		msg_reply(x->request, a->reply, a->fds, x->n_fds, false);
}
