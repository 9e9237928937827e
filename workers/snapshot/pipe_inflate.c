/*
 * pipe_inflate: a stream of somebody else's is decompressed, by a child that can
 * do nothing but read the one pipe and write into the other. It ends when either
 * does, so nobody has to stop it.
 */
#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "workers/snapshot/decode/decode.h"
#include "workers/snapshot/jail.h"
#include "workers/snapshot/unpack/unpack.h"

#include <stdio.h>
#include <string.h>

struct inflating {
	struct msg_request *request; /* whose arena holds this */
	struct child *child;
	int from, to;
};

static int copy(struct stream *from, int to, struct fault *fault) {
	const uint8_t *data;
	ssize_t n;
	while ((n = from->next(from, &data, fault)) > 0) {
		int r = fd_write_all(to, data, (size_t)n);
		if (r < 0)
			return fault_errno(fault, r, "pass on what is decompressed");
	}
	return (int)n;
}

static int inflate_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	static const struct decode_limits limits = { UNPACK_SIZE_MAX, UNPACK_RATIO_MAX, UNPACK_RATIO_FROM };
	const struct inflating *x = arg;
	CLEANUP(decoder_free_p) struct decoder *decoder = NULL;
	int r = decoder_new(x->from, &limits, &decoder);
	if (r < 0)
		return fault_errno(fault, r, "decompress");
	r = jail_enter(JAIL_INFLATE, -1, fault);
	return r < 0 ? r : copy(decoder_stream(decoder), x->to, fault);
}

static void inflated(void *ctx, const struct child_result *result) {
	struct inflating *x = ctx;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	x->request->cancelled = NULL;
	if (result->fault.code == FAULT_NONE)
		pipe_inflate_reply(x->request, &done, NULL, 0);
	else
		msg_fail(x->request, &result->fault);
}

static void inflating_cancelled(struct msg_request *r, void *ctx) {
	const struct inflating *x = ctx;
	r->cancelled = NULL;
	child_kill(x->child);
}

void on_pipe_inflate(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
	struct inflating *x = arena_zalloc(&r->arena, sizeof(*x));
	struct fault fault;
	if (!x) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "decompress: out of memory");
		return;
	}
	*x = (struct inflating){ .request = r, .from = r->fds[0], .to = r->fds[1] };
	const struct child_options options = {
		.name = "inflate",
		.keep = { x->from, x->to },
		.n_keep = 2,
		.run = inflate_run,
		.arg = x,
		.done = inflated,
		.ctx = x,
	};
	int e = child_start(s->loop, &options, &x->child);
	if (e < 0) {
		fault_errno(&fault, e, "decompress");
		msg_fail(r, &fault);
		return;
	}
	/* The child has them; here they would keep the pipes from ending. */
	msg_close_fds(r);
	r->cancelled = inflating_cancelled;
	r->cancelled_ctx = x;
}
