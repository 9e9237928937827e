/*
 * csandbox_stop: the pod, whatever runs in it, and the end recorded; or, to
 * forget it, the record deleted. What fails is asked for again.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include "workers/metadata/cri.h"
#include "workers/metadata/ctask/ctask.h"

#include <errno.h>
#include <string.h>

#define EXIT_STOPPED 0 /* somebody asked for it */

struct stop_op {
	struct op op;
	struct csandbox *s;
	bool forget, gone;
};

static struct stop_op *stop_of(struct op *op) {
	return container_of(op, struct stop_op, op);
}

static void stopped(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

static void stop_send(struct op *op) {
	struct csandbox *s = stop_of(op)->s;
	Bulkhead__SandboxStopRequest q = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	struct arena a;
	if (!csandbox_is_up(s)) {
		op_next(op);
		return;
	}
	arena_init(&a, 0);
	q.id = s->record->pod->id;
	q.container_ids = ctask_ids_in(&op->m->ctasks, q.id, &a, &q.n_container_ids);
	struct msg_context context = op_context(op, 0);
	sandbox_stop_send(op->m->task, &context, &q, NULL, 0, stopped, op);
	arena_deinit(&a);
}

static void stop_record(struct op *op) {
	struct stop_op *o = stop_of(op);
	csandbox_ended(op->m, o->s, EXIT_STOPPED);
	int r = o->forget ? csandbox_unsave(op->m, o->s) : csandbox_save(op->m, o->s);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	o->gone = o->forget;
	op_commit(op, STORE_PODS);
}

static const struct op_step stop_steps[] = {
	{ .name = "stop its pod", .run = stop_send },
	{ .name = "record", .run = stop_record },
	{ .name = NULL },
};

static void stop_answer(struct op *op, struct msg_request *r) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	csandbox_stop_reply(r, &done, NULL, 0);
}

static void stop_free(struct op *op) {
	struct stop_op *o = stop_of(op);
	if (op->fault.code == FAULT_NONE && o->gone)
		csandbox_free(&op->m->csandboxes, o->s);
	free(o);
}

static const struct op_class stop_class = {
	.name = "stop sandbox",
	.steps = stop_steps,
	.answer = stop_answer,
	.free = stop_free,
};

void csandbox_stop(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxStopRequest *q = (const Bulkhead__CsandboxStopRequest *)request;
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate(m, r, request, csandbox_stop))
		return;
	if (csandbox_of(m, q->key, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (s->op) {
		op_requeue(s->op, r, request, csandbox_stop);
		return;
	}
	struct stop_op *o = calloc(1, sizeof(*o));
	if (!o) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "stop sandbox \"%s\": out of memory", s->record->id);
		return;
	}
	op_init(&o->op, &stop_class, m, &s->op, s->record->id, r);
	o->s = s;
	o->forget = q->forget;
	op_join(&o->op, r);
	op_start(&o->op);
}
