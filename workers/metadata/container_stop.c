/*
 * StopContainer: task_stop -> record (ENDED). It is no operation: nothing of it
 * needs undoing, the end of the process is the record. One that is paused goes on
 * first (task_freeze), so that it can heed the signal within the grace period.
 * RemoveContainer: task_stop when it runs -> record deleted -> the rest is swept.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "workers/metadata/container.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/spec/spec.h"

#include <stdio.h>

/* --- remove ----------------------------------------------------------------- */

static void remove_stopped(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct container *c = container_of_op(op);
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND) {
		op_fail_with(op, answer->fault);
		return;
	}
	container_ended(op->m, c, answer->fault ? NULL : task_stop_answer(answer));
	op_next(op);
}

static void remove_stop(struct op *op) {
	struct container *c = container_of_op(op);
	if (c->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_UP) {
		op_next(op);
		return;
	}
	Bulkhead__TaskStopRequest q = BULKHEAD__TASK_STOP_REQUEST__INIT;
	q.sandbox_id = c->record->sandbox_id;
	q.container_id = c->record->id;
	q.signal = 9;
	struct msg_context context = op_context(op, 0);
	task_stop_send(op->m->task, &context, &q, NULL, 0, remove_stopped, op);
}

static void remove_record(struct op *op) {
	const struct container *c = container_of_op(op);
	char key[KEY_SIZE];
	container_key(c->record->id, key);
	int r = store_delete(op->m->store, STORE_PODS, key);
	if (r < 0) {
		fault_errno(&op->fault, r, "delete the record");
		op_fail(op);
		return;
	}
	/* In one transaction, and told after the operation went on. */
	op_commit(op, STORE_PODS);
	events_add(&op->m->events, EVENT_DELETED, c->record->sandbox_id, c->record->id);
	container_view_tell(op->m, CONTAINER_NEWS_GONE, c);
}

static void remove_forget(struct op *op) {
	op->slot = NULL;
	container_forget(op->m, container_of_op(op));
	op_next(op);
}

static const struct op_step remove_steps[] = {
	{ .name = "stop", .run = remove_stop },
	{ .name = "delete the record", .run = remove_record },
	{ .name = "forget", .run = remove_forget },
	{ .name = NULL },
};

static void remove_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__RemoveContainerResponse a = RUNTIME__V1__REMOVE_CONTAINER_RESPONSE__INIT;
	cri_remove_container_reply(r, &a, NULL, 0);
}

static const struct op_class remove_class = {
	.name = "remove container",
	.steps = remove_steps,
	.answer = remove_answer,
	.free = container_op_free,
};

void cri_remove_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__RemoveContainerRequest *q = (const Runtime__V1__RemoveContainerRequest *)request;
	struct container *c;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_remove_container))
		return;
	int e = model_find_container(&m->model, q->container_id, &c, &fault);
	if (e < 0 && fault.code != FAULT_NOT_FOUND) {
		fault_prefix(&fault, 0, "remove container");
		msg_fail(r, &fault);
	} else if (e < 0)
		remove_answer(NULL, r);
	else if (c->op && c->op->class == &remove_class)
		op_join(c->op, r);
	else if (c->op || c->sandbox->op)
		op_requeue(c->op ? c->op : c->sandbox->op, r, request, cri_remove_container);
	else {
		struct container_op *co = container_op_new(m, &remove_class, c, r);
		if (co)
			op_start(&co->op);
	}
}

/* --- stop ------------------------------------------------------------------- */

struct stopping {
	struct metadata *m;
	struct msg_request *r;
	char id[KEY_SIZE], sandbox_id[KEY_SIZE];
	uint32_t signal;
	uint64_t grace_ns;
	struct store_waiter commit;
};

static void stop_answer(struct msg_request *r) {
	Runtime__V1__StopContainerResponse a = RUNTIME__V1__STOP_CONTAINER_RESPONSE__INIT;
	cri_stop_container_reply(r, &a, NULL, 0);
}

static void stop_committed(void *ctx, int result) {
	struct stopping *st = ctx;
	struct fault fault;
	if (result < 0) {
		fault_errno(&fault, result, "stop container \"%s\": write the record", st->id);
		msg_fail(st->r, &fault);
	} else
		stop_answer(st->r);
	free(st);
}

static void stop_stopped(void *ctx, const struct msg_answer *answer) {
	struct stopping *st = ctx;
	struct map_node *n = map_find(&st->m->model.container_ids, st->id);
	struct container *c = n ? container_of(n, struct container, by_id) : NULL;
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND) {
		struct fault fault = *answer->fault;
		fault_prefix(&fault, 0, "stop container \"%s\"", st->id);
		msg_fail(st->r, &fault);
		free(st);
		return;
	}
	if (c && c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		container_ended(st->m, c, answer->fault ? NULL : task_stop_answer(answer));
	store_wait(st->m->store, STORE_PODS, &st->commit);
}

/* Without the caller's deadline: the signal is sent, and the grace period goes
 * on, whether or not anybody waits. */
static struct msg_context stop_context(const struct stopping *st) {
	struct msg_context context = st->r->context;
	context.deadline = 0;
	return context;
}

static void stop_send(struct stopping *st) {
	Bulkhead__TaskStopRequest q = BULKHEAD__TASK_STOP_REQUEST__INIT;
	const struct msg_context context = stop_context(st);
	q.sandbox_id = st->sandbox_id;
	q.container_id = st->id;
	q.signal = st->signal;
	q.grace_ns = st->grace_ns;
	task_stop_send(st->m->task, &context, &q, NULL, 0, stop_stopped, st);
}

/* When it couldn't be thawed, SIGKILL ends it all the same. */
static void stop_thawed(void *ctx, const struct msg_answer *answer) {
	struct stopping *st = ctx;
	if (!answer->fault)
		ctask_lent_resumed(st->m, st->id);
	stop_send(st);
}

static void stop_thaw(struct stopping *st) {
	Bulkhead__TaskFreezeRequest q = BULKHEAD__TASK_FREEZE_REQUEST__INIT;
	const struct msg_context context = stop_context(st);
	q.sandbox_id = st->sandbox_id;
	q.container_id = st->id;
	task_freeze_send(st->m->task, &context, &q, NULL, 0, stop_thawed, st);
}

static void stop_begin(struct metadata *m, struct container *c, struct msg_request *r, int64_t timeout) {
	struct stopping *st = calloc(1, sizeof(*st));
	if (!st) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "stop container: out of memory");
		return;
	}
	*st = (struct stopping){ .m = m,
				 .r = r,
				 .signal = spec_stop_signal(c->record),
				 .grace_ns =
				     timeout <= 0 ? 0 : (uint64_t)MIN(timeout, INT64_MAX / NS_PER_SEC) * NS_PER_SEC };
	st->commit = (struct store_waiter){ .fn = stop_committed, .ctx = st };
	snprintf(st->id, sizeof(st->id), "%s", c->record->id);
	snprintf(st->sandbox_id, sizeof(st->sandbox_id), "%s", c->record->sandbox_id);
	if (st->grace_ns > 0 && ctask_lent_paused(m, c))
		stop_thaw(st);
	else
		stop_send(st);
}

void cri_stop_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__StopContainerRequest *q = (const Runtime__V1__StopContainerRequest *)request;
	struct container *c;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_stop_container))
		return;
	int e = model_find_container(&m->model, q->container_id, &c, &fault);
	if (e < 0 && fault.code != FAULT_NOT_FOUND) {
		fault_prefix(&fault, 0, "stop container");
		msg_fail(r, &fault);
	} else if (e < 0)
		stop_answer(r);
	else if (c->op)
		op_requeue(c->op, r, request, cri_stop_container);
	else if (c->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		stop_answer(r);
	else
		stop_begin(m, c, r, q->timeout);
}
