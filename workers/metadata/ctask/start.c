/*
 * ctask_start: of the first process, or of one that ctask_exec has added.
 * ctask_spawn: of one that it adds itself, with a name or without; after a crash in between the
 * reconciliation ends what nobody knows of.
 */
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/ctask/restore.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/lifecycle.h"

#include <errno.h>

struct start_op {
	struct op op;
	struct ctask *t;
	Bulkhead__CtaskExec *exec; /* the task's; NULL: the first process */
};

static struct start_op *start_of(struct op *op) {
	return container_of(op, struct start_op, op);
}

static void started(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct start_op *s = start_of(op);
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	const Bulkhead__TaskCreateReply *a = task_start_answer(answer);
	if (s->exec) {
		s->exec->pid = (uint32_t)a->pid;
		s->exec->status = CTASK(RUNNING);
	} else {
		s->t->record->task->started_at = a->started_at;
		s->t->record->task->pid = a->pid; /* of a restored one it is new */
		s->t->record->status = CTASK(RUNNING);
	}
	op_next(op);
}

static void start_send(struct op *op) {
	struct start_op *s = start_of(op);
	const Bulkhead__CtaskRecord *r = s->t->record;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	if (s->exec) {
		Bulkhead__ProcessStartRequest q = BULKHEAD__PROCESS_START_REQUEST__INIT;
		q.sandbox_id = r->sandbox_id;
		q.container_id = r->container_id;
		q.exec_id = s->exec->id;
		q.process = s->exec->process;
		q.stdio = s->exec->stdio;
		process_start_send(op->m->task, &context, &q, NULL, 0, started, op);
		return;
	}
	Bulkhead__TaskKey q = BULKHEAD__TASK_KEY__INIT;
	q.sandbox_id = r->sandbox_id;
	q.container_id = r->container_id;
	task_start_send(op->m->task, &context, &q, NULL, 0, started, op);
}

static void input_closed(void *ctx, const struct msg_answer *answer) {
	op_next(ctx);
}

static void start_close_input(struct op *op) {
	struct start_op *s = start_of(op);
	if (!s->exec || !s->exec->stdin_closed) {
		op_next(op);
		return;
	}
	Bulkhead__ProcessKey q = BULKHEAD__PROCESS_KEY__INIT;
	q.sandbox_id = s->t->record->sandbox_id;
	q.container_id = s->t->record->container_id;
	q.exec_id = s->exec->id;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	process_close_stdin_send(op->m->task, &context, &q, NULL, 0, input_closed, op);
}

static void start_record(struct op *op) {
	int r = ctask_save(op->m, start_of(op)->t);
	if (r < 0)
		op_fail_store(op, r);
	else
		op_commit(op, STORE_PODS);
}

static void spawn_undo(struct op *op) {
	struct start_op *s = start_of(op);
	ctask_exec_drop(s->t, s->exec);
	s->exec = NULL;
}

static const struct op_step start_steps[] = {
	{ .name = "execute", .run = start_send },
	{ .name = "close its input", .run = start_close_input },
	{ .name = "record", .run = start_record },
	{ .name = NULL },
};

static const struct op_step spawn_steps[] = {
	{ .name = "execute", .run = start_send, .undo = spawn_undo },
	{ .name = "record", .run = start_record },
	{ .name = NULL },
};

static void start_answer(struct op *op, struct msg_request *r) {
	const struct start_op *s = start_of(op);
	Bulkhead__CtaskPid a = BULKHEAD__CTASK_PID__INIT;
	a.pid = s->exec ? s->exec->pid : (uint32_t)s->t->record->task->pid;
	ctask_start_reply(r, &a, NULL, 0);
}

/* First the beginning, then an end that came with it. */
static void start_free(struct op *op) {
	struct start_op *s = start_of(op);
	if (op->fault.code == FAULT_NONE && s->exec && s->exec->unnamed)
		ctask_tell(op->m, "/tasks/exec-added", s->t, s->exec);
	if (op->fault.code == FAULT_NONE)
		ctask_tell(op->m, s->exec ? "/tasks/exec-started" : "/tasks/start", s->t, s->exec);
	if (!s->exec)
		ctask_restore_taken(op->m, s->t);
	ctask_ended_meanwhile(op->m, s->t);
	ctask_lent_settle(op->m, s->t);
	free(s);
}

static void spawn_answer(struct op *op, struct msg_request *r) {
	Bulkhead__CtaskPid a = BULKHEAD__CTASK_PID__INIT;
	a.pid = start_of(op)->exec->pid;
	ctask_spawn_reply(r, &a, NULL, 0);
}

static const struct op_class start_class = {
	.name = "start task",
	.steps = start_steps,
	.answer = start_answer,
	.free = start_free,
};

static const struct op_class spawn_class = {
	.name = "execute in task",
	.steps = spawn_steps,
	.answer = spawn_answer,
	.free = start_free,
};

static int start_check(const struct ctask *t, const Bulkhead__CtaskExec *exec, const Bulkhead__CtaskKey *key,
		       struct fault *fault) {
	int r = ctask_may(t, exec, CTASK_MAY_START, key, fault);
	return r == 0 && exec ? ctask_may(t, NULL, CTASK_MAY_EXECUTE, key, fault) : r;
}

static void start_begin(struct metadata *m, struct msg_request *r, const struct op_class *class, struct ctask *t,
			Bulkhead__CtaskExec *exec) {
	struct start_op *s = calloc(1, sizeof(*s));
	if (!s) {
		if (class == &spawn_class)
			ctask_exec_drop(t, exec);
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "start task \"%s\": out of memory", t->record->container_id);
		return;
	}
	op_init(&s->op, class, m, &t->op, t->record->container_id, r);
	s->t = t;
	s->exec = exec;
	op_join(&s->op, r);
	op_start(&s->op);
}

void ctask_start(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskKey *key = (const Bulkhead__CtaskKey *)request;
	Bulkhead__CtaskExec *exec;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_start))
		return;
	int e = ctask_process_of(m, key, &t, &exec, &fault);
	if (e == 0 && !exec)
		e = ctask_own(t, &fault);
	if (e == 0 && t->op) {
		op_requeue(t->op, r, request, ctask_start);
		return;
	}
	if (e == 0)
		e = start_check(t, exec, key, &fault);
	if (e == 0)
		start_begin(m, r, &start_class, t, exec);
	else
		msg_fail(r, &fault);
}

/* --- at once ---------------------------------------------------------------- */

/* One without a name is named at random, as it must be called something below. */
static int spawn_add(struct ctask *t, const Bulkhead__CtaskExecRequest *q, struct fault *fault) {
	Bulkhead__CtaskExecRequest named = *q;
	Bulkhead__CtaskKey key = *q->key;
	char id[ID_SIZE];
	bool unnamed = !*key.exec_id;
	id_random(id);
	if (unnamed)
		key.exec_id = id;
	named.key = &key;
	int e = ctask_exec_check(t, &named, CTASK_MAY_EXECUTE, fault);
	if (e == 0 && (e = ctask_exec_add(t, &named, unnamed)) < 0)
		fault_errno(fault, e, "add a process to task \"%s\"", key.container_id);
	return e;
}

void ctask_spawn(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskExecRequest *q = (const Bulkhead__CtaskExecRequest *)request;
	struct ctask *t;
	struct fault fault;
	if (metadata_gate(m, r, request, ctask_spawn))
		return;
	int e = ctask_of(m, q->key, &t, &fault);
	if (e == 0 && t->op) {
		op_requeue(t->op, r, request, ctask_spawn);
		return;
	}
	if (e == 0)
		e = spawn_add(t, q, &fault);
	if (e == 0)
		start_begin(m, r, &spawn_class, t, t->record->execs[t->record->n_execs - 1]);
	else
		msg_fail(r, &fault);
}
