/* csandbox_freeze: all tasks in it, one after the other; those that don't run are let be. */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/ctask/ctask.h"

#include <errno.h>

#define FREEZE_TIMEOUT_NS (60 * NS_PER_SEC)

struct freeze_op {
	struct op op;
	struct csandbox *s;
	bool frozen;
	Bulkhead__CtaskKey key; /* of the task that is asked now; in the op's arena */
	struct arena arena;
};

static struct freeze_op *freeze_of(struct op *op) {
	return container_of(op, struct freeze_op, op);
}

static void freeze_next(struct op *op);

static void task_frozen(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct freeze_op *f = freeze_of(op);
	struct ctask *t = ctask_find(&op->m->ctasks, f->key.namespace_, f->key.container_id);
	/* It may have ended meanwhile. */
	if (answer->fault && t && t->record->status != CTASK(STOPPED)) {
		op_fail_below(op, answer->fault);
		return;
	}
	if (t && t->record->status != CTASK(STOPPED))
		ctask_froze(op->m, t, f->frozen);
	freeze_next(op);
}

static void freeze_next(struct op *op) {
	struct freeze_op *f = freeze_of(op);
	Bulkhead__TaskFreezeRequest q = BULKHEAD__TASK_FREEZE_REQUEST__INIT;
	struct ctask *t =
	    ctask_with_status(&op->m->ctasks, f->s->record->pod->id, f->frozen ? CTASK(RUNNING) : CTASK(PAUSED));
	if (!t) {
		op_next(op);
		return;
	}
	f->key = (Bulkhead__CtaskKey)BULKHEAD__CTASK_KEY__INIT;
	f->key.namespace_ = f->s->record->namespace_;
	f->key.container_id = arena_strdup(&f->arena, t->record->container_id);
	if (!f->key.container_id) {
		fault_errno(&op->fault, ENOMEM, "freeze");
		op_fail(op);
		return;
	}
	q.sandbox_id = t->record->sandbox_id;
	q.container_id = t->record->container_id;
	q.frozen = f->frozen;
	struct msg_context context = op_context(op, FREEZE_TIMEOUT_NS);
	task_freeze_send(op->m->task, &context, &q, NULL, 0, task_frozen, op);
}

static void freeze_record(struct op *op) {
	struct freeze_op *f = freeze_of(op);
	f->s->record->state = f->frozen ? CSANDBOX(PAUSED) : CSANDBOX(READY);
	int r = csandbox_save(op->m, f->s);
	if (r < 0)
		op_fail_store(op, r);
	else
		op_commit(op, STORE_PODS);
}

static const struct op_step freeze_steps[] = {
	{ .name = "freeze its tasks", .run = freeze_next },
	{ .name = "record", .run = freeze_record },
	{ .name = NULL },
};

static void freeze_answer(struct op *op, struct msg_request *r) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	csandbox_freeze_reply(r, &done, NULL, 0);
}

static void freeze_free(struct op *op) {
	arena_deinit(&freeze_of(op)->arena);
	free(freeze_of(op));
}

static const struct op_class freeze_class = {
	.name = "pause or resume sandbox",
	.steps = freeze_steps,
	.answer = freeze_answer,
	.free = freeze_free,
};

void csandbox_freeze(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CsandboxFreezeRequest *q = (const Bulkhead__CsandboxFreezeRequest *)request;
	char text[CSANDBOX_TEXT_MAX];
	struct csandbox *s;
	struct fault fault;
	if (metadata_gate(m, r, request, csandbox_freeze))
		return;
	if (csandbox_of(m, q->key, &s, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (s->op) {
		op_requeue(s->op, r, request, csandbox_freeze);
		return;
	}
	if (!csandbox_is_up(s)) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "%s isn't running", csandbox_text(q->key, text));
		return;
	}
	struct freeze_op *f = calloc(1, sizeof(*f));
	if (!f) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "freeze sandbox \"%s\": out of memory", s->record->id);
		return;
	}
	arena_init(&f->arena, 0);
	op_init(&f->op, &freeze_class, m, &s->op, s->record->id, r);
	f->s = s;
	f->frozen = q->frozen;
	op_join(&f->op, r);
	op_start(&f->op);
}
