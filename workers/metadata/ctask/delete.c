/*
 * ctask_delete: of an added process, or of the task: then its processes are
 * gone, its pod with them if it has one of its own, and its record last. What fails is asked for again.
 * ctask_remove: of a task that may still run; below nothing is deleted before it has ended anyway.
 */
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/ctask/restore.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/guest.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/lifecycle.h"

#include <errno.h>
#include <string.h>

#define TIMEOUT_MAX ((uint64_t)INT64_MAX / 4)

struct delete_op {
	struct op op;
	struct ctask *t;
	Bulkhead__CtaskExec *exec; /* NULL: the task */
	Bulkhead__CtaskKey key;
	Bulkhead__CtaskExit exit;
	bool taken; /* exec is the operation's */
	int64_t timeout;
	bool gone;
};

static struct delete_op *delete_of(struct op *op) {
	return container_of(op, struct delete_op, op);
}

static void removed(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

static void delete_send(struct op *op) {
	struct delete_op *d = delete_of(op);
	const Bulkhead__CtaskRecord *r = d->t->record;
	struct msg_context context = op_context(op, d->timeout);
	if (d->exec) {
		Bulkhead__ProcessKey q = BULKHEAD__PROCESS_KEY__INIT;
		q.sandbox_id = r->sandbox_id;
		q.container_id = r->container_id;
		q.exec_id = d->exec->id;
		process_delete_send(op->m->task, &context, &q, NULL, 0, removed, op);
		return;
	}
	if (!r->owns_pod) {
		Bulkhead__TaskKey q = BULKHEAD__TASK_KEY__INIT;
		q.sandbox_id = r->sandbox_id;
		q.container_id = r->container_id;
		task_delete_send(op->m->task, &context, &q, NULL, 0, removed, op);
		return;
	}
	Bulkhead__SandboxStopRequest q = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	char *ids[] = { r->container_id };
	q.id = r->sandbox_id;
	q.container_ids = ids;
	q.n_container_ids = 1;
	sandbox_stop_send(op->m->task, &context, &q, NULL, 0, removed, op);
}

static void delete_record(struct op *op) {
	struct delete_op *d = delete_of(op);
	ctask_exit_fill(d->t, d->exec, &d->key, &d->exit);
	if (d->exec) {
		ctask_exec_take(d->t, d->exec);
		d->taken = true;
	}
	int r = d->exec ? ctask_save(op->m, d->t) : ctask_unsave(op->m, d->t);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	d->gone = true;
	op_commit(op, STORE_PODS);
}

static const struct op_step delete_steps[] = {
	{ .name = "remove what it was", .run = delete_send },
	{ .name = "record", .run = delete_record },
	{ .name = NULL },
};

static void delete_answer(struct op *op, struct msg_request *r) {
	ctask_delete_reply(r, &delete_of(op)->exit, NULL, 0);
}

static void delete_free(struct op *op) {
	struct delete_op *d = delete_of(op);
	if (op->fault.code == FAULT_NONE && d->gone && !d->exec) {
		ctask_tell(op->m, "/tasks/delete", d->t, NULL);
		ctask_restore_taken(op->m, d->t);
		guest_release(op->m, d->t->record->container_id);
		ctask_free(&op->m->ctasks, d->t);
	} else {
		ctask_ended_meanwhile(op->m, d->t);
		ctask_lent_settle(op->m, d->t);
	}
	if (d->taken)
		ctask_exec_free(d->exec);
	free(d);
}

static const struct op_class delete_class = {
	.name = "delete task",
	.steps = delete_steps,
	.answer = delete_answer,
	.free = delete_free,
};

static void remove_answer(struct op *op, struct msg_request *r) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	ctask_remove_reply(r, &done, NULL, 0);
}

static const struct op_class remove_class = {
	.name = "remove task",
	.steps = delete_steps,
	.answer = remove_answer,
	.free = delete_free,
};

static int delete_begin(struct metadata *m, struct msg_request *r, const struct op_class *class, struct ctask *t,
			Bulkhead__CtaskExec *exec, int64_t timeout, struct fault *fault) {
	struct delete_op *d = calloc(1, sizeof(*d));
	if (!d)
		return fault_errno(fault, ENOMEM, "delete task \"%s\"", t->record->container_id);
	op_init(&d->op, class, m, &t->op, t->record->container_id, r);
	d->t = t;
	d->exec = exec;
	d->timeout = timeout;
	op_join(&d->op, r);
	op_start(&d->op);
	return 0;
}

void ctask_delete(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskKey *key = (const Bulkhead__CtaskKey *)request;
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_delete))
		return;
	int e = ctask_process_of(m, key, &t, &exec, &fault);
	if (e == 0 && !exec)
		e = ctask_own(t, &fault);
	if (e == 0 && t->op) {
		op_requeue(t->op, r, request, ctask_delete);
		return;
	}
	if (e == 0)
		e = ctask_may(t, exec, CTASK_MAY_DELETE, key, &fault);
	if (e == 0)
		e = delete_begin(m, r, &delete_class, t, exec, 0, &fault);
	if (e < 0)
		msg_fail(r, &fault);
}

void ctask_remove(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskRemoveRequest *q = (const Bulkhead__CtaskRemoveRequest *)request;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_remove))
		return;
	int e = ctask_of(m, q->key, &t, &fault);
	if (e == 0)
		e = ctask_own(t, &fault);
	if (e == 0 && t->op) {
		op_requeue(t->op, r, request, ctask_remove);
		return;
	}
	if (e == 0)
		e = delete_begin(m, r, &remove_class, t, NULL, (int64_t)MIN(q->timeout_ns, TIMEOUT_MAX), &fault);
	if (e < 0)
		msg_fail(r, &fault);
}
