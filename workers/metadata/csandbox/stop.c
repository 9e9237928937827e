/*
 * csandbox_stop: SIGTERM to what runs in it, the pod after the time that its
 * client gives it, and the end recorded; or, to forget it, the record deleted.
 * A second stop may shorten the time. What fails is asked for again.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/guest.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/lifecycle.h"

#include <errno.h>
#include <string.h>

#define EXIT_STOPPED 0			   /* somebody asked for it */
#define KILL_PATIENCE_NS (10 * NS_PER_SEC) /* after the grace, for the keeper's answer */

struct stop_op {
	struct op op;
	struct csandbox *s;
	bool forget, tasks, gone;
	int64_t grace_ns, killed_at; /* killed_at: of clock_mono */
	size_t n_asked;		     /* tasks whose end isn't answered yet */
};

static struct stop_op *stop_of(struct op *op) {
	return container_of(op, struct stop_op, op);
}

/* --- its tasks -------------------------------------------------------------- */

/* What won't end so ends with the pod. */
static void task_ended(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (!answer->fault)
		ctask_exited(op->m, task_stop_answer(answer));
	if (--stop_of(op)->n_asked == 0)
		op_next(op);
}

static void task_end(struct op *op, const struct ctask *t) {
	struct stop_op *o = stop_of(op);
	Bulkhead__TaskStopRequest q = BULKHEAD__TASK_STOP_REQUEST__INIT;
	struct msg_context context = op_context(op, o->grace_ns + KILL_PATIENCE_NS);
	q.sandbox_id = t->record->sandbox_id;
	q.container_id = t->record->container_id;
	q.signal = SIGNAL_TERM;
	q.grace_ns = (uint64_t)o->grace_ns;
	o->n_asked++;
	task_stop_send(op->m->task, &context, &q, NULL, 0, task_ended, op);
}

static void tasks_end(struct op *op) {
	struct stop_op *o = stop_of(op);
	o->n_asked++; /* this call, in case that an answer comes within it */
	list_for_each_safe (n, &op->m->ctasks.all) {
		const struct ctask *t = list_entry(n, struct ctask, node);
		if (t->made && t->record->status != CTASK(STOPPED) &&
		    strcmp(t->record->sandbox_id, o->s->record->pod->id) == 0)
			task_end(op, t);
	}
	if (--o->n_asked == 0)
		op_next(op);
}

static void grace(struct op *op) {
	struct stop_op *o = stop_of(op);
	if (o->grace_ns == 0 || !csandbox_is_up(o->s)) {
		op_next(op);
		return;
	}
	o->killed_at = clock_mono() + o->grace_ns;
	tasks_end(op);
}

/* The keeper ends a task at the earliest time that anybody gave it. */
static void grace_shorten(struct op *op, int64_t grace_ns) {
	struct stop_op *o = stop_of(op);
	if (o->n_asked == 0 || clock_mono() + grace_ns >= o->killed_at)
		return;
	o->grace_ns = grace_ns;
	o->killed_at = clock_mono() + grace_ns;
	tasks_end(op);
}

/* --- the pod ---------------------------------------------------------------- */

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
	/* Of one that has ended something may still be on its way out. */
	if (!s->record->started) {
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

/* What an operation is at keeps its own record. */
static int tasks_forget(struct metadata *m, const char *pod_id) {
	int r = 0;
	list_for_each_safe (n, &m->ctasks.all) {
		struct ctask *t = list_entry(n, struct ctask, node);
		if (t->op || !t->made || strcmp(t->record->sandbox_id, pod_id) != 0)
			continue;
		int e = ctask_unsave(m, t);
		if (e < 0)
			r = e;
		else
			ctask_free(&m->ctasks, t);
	}
	return r;
}

static void stop_record(struct op *op) {
	struct stop_op *o = stop_of(op);
	csandbox_ended(op->m, o->s, EXIT_STOPPED);
	if (o->tasks && tasks_forget(op->m, o->s->record->pod->id) < 0)
		log_event(LOG_WARN, "tasks are kept", "sandbox", o->s->record->id, NULL);
	int r = o->forget ? csandbox_unsave(op->m, o->s) : csandbox_save(op->m, o->s);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	o->gone = o->forget;
	op_commit(op, STORE_PODS);
}

static const struct op_step stop_steps[] = {
	{ .name = "let its tasks end", .run = grace },
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
	bool gone = op->fault.code == FAULT_NONE && o->gone;
	if (gone) {
		guest_end(op->m);
		csandbox_free(&op->m->csandboxes, o->s);
	}
	/* An agent's one sandbox: what it was there for is over. */
	if (gone && op->m->config->agent_ends && op->m->finish)
		op->m->finish(op->m->worker);
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
	int64_t grace_ns = q->grace_seconds * NS_PER_SEC;
	if (s->op) {
		/* Before it waits: the end of the operation may be what it brings. */
		op_requeue(s->op, r, request, csandbox_stop);
		if (s->op->class == &stop_class)
			grace_shorten(s->op, grace_ns);
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
	o->grace_ns = grace_ns;
	o->tasks = q->forget && q->tasks;
	op_join(&o->op, r);
	op_start(&o->op);
}
