#include "workers/metadata/op.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/metadata.h"
#include "workers/metadata/store/record.h"

#include <errno.h>
#include <stdio.h>

struct joiner {
	struct list node;
	struct msg_request *r;
};

void op_init(struct op *op, const struct op_class *class, struct metadata *m, struct op **slot, const char *object,
	     const struct msg_request *r) {
	*op = (struct op){ .class = class, .m = m, .slot = slot };
	if (r)
		op->context = r->context;
	op->context.deadline = 0;
	snprintf(op->object, sizeof(op->object), "%s", object);
	list_init(&op->joiners);
	list_init(&op->after);
	list_init(&op->commit.node);
	if (slot)
		*slot = op;
	op->begun = clock_mono();
	list_append(&m->ops, &op->node);
}

struct msg_context op_context(const struct op *op, int64_t timeout_ns) {
	struct msg_context c = op->context;
	c.deadline = timeout_ns ? clock_mono() + timeout_ns : 0;
	return c;
}

static void answer_joiners(struct op *op) {
	for (struct list *n; (n = list_pop(&op->joiners));) {
		struct joiner *j = list_entry(n, struct joiner, node);
		if (op->fault.code == FAULT_NONE)
			op->class->answer(op, j->r);
		else
			msg_fail(j->r, &op->fault);
	}
}

static void op_end(struct op *op) {
	struct list after;
	list_init(&after);
	if (op->slot && *op->slot == op)
		*op->slot = NULL;
	if (op->fault.code != FAULT_NONE)
		log_event(LOG_INFO, "operation failed", "op", op->class->name, "object", op->object, "error",
			  op->fault.text, NULL);
	answer_joiners(op);
	for (struct list *n; (n = list_pop(&op->after));)
		list_append(&after, n);
	loop_source_free(op->timer);
	list_unlink(&op->node);
	op->class->free(op);
	for (struct list *n; (n = list_pop(&after));) {
		struct op_after *a = list_entry(n, struct op_after, node);
		a->fn(a->ctx);
	}
}

void ops_abandon(struct metadata *m) {
	for (struct list *n; (n = list_pop(&m->ops));) {
		struct op *op = list_entry(n, struct op, node);
		fault_set(&op->fault, FAULT_UNAVAILABLE, "the metadata worker ends");
		answer_joiners(op);
		store_unwait(&op->commit);
		loop_source_free(op->timer);
		op->class->free(op);
	}
}

static void op_undo(struct op *op) {
	for (size_t i = op->step + 1; i-- > 0;)
		if (op->class->steps[i].undo)
			op->class->steps[i].undo(op);
	op_end(op);
}

/* A loop instead of recursion: a step may end within its run. */
static void op_drive(struct op *op) {
	if (op->driving)
		return;
	op->driving = true;
	while (op->ready && op->fault.code == FAULT_NONE && op->class->steps[op->step].name) {
		op->ready = false;
		op->class->steps[op->step].run(op);
	}
	op->driving = false;
	if (op->fault.code != FAULT_NONE)
		op_undo(op);
	else if (op->ready)
		op_end(op);
}

void op_start(struct op *op) {
	op->ready = true;
	op_drive(op);
}

void op_next(struct op *op) {
	op->step++;
	op->attempts = 0;
	op->ready = true;
	op_drive(op);
}

void op_fail(struct op *op) {
	if (op->fault.code == FAULT_NONE)
		fault_set(&op->fault, FAULT_INTERNAL, "no reason given");
	fault_prefix(&op->fault, 0, "%s \"%s\": %s", op->class->name, op->object, op->class->steps[op->step].name);
	op_drive(op);
}

void op_fail_with(struct op *op, const struct fault *fault) {
	op->fault = *fault;
	op_fail(op);
}

void op_fail_below(struct op *op, const struct fault *fault) {
	op->fault = *fault;
	if (fault->code == FAULT_NOT_FOUND)
		op->fault.code = FAULT_FAILED_PRECONDITION;
	op_fail(op);
}

void op_fail_store(struct op *op, int r) {
	if (r == -EFBIG)
		fault_set(&op->fault, FAULT_RESOURCE_EXHAUSTED, "its record would have more than %d bytes", RECORD_MAX);
	else
		fault_errno(&op->fault, r, "store the record");
	op_fail(op);
}

static void on_again(void *ctx) {
	struct op *op = ctx;
	loop_source_free(op->timer);
	op->timer = NULL;
	op->ready = true;
	op_drive(op);
}

void op_again(struct op *op, size_t n, int64_t delay_ns) {
	op->step = n;
	op->attempts++;
	int r = loop_timer(op->m->loop, clock_mono() + delay_ns, on_again, op, &op->timer);
	if (r < 0) {
		fault_errno(&op->fault, r, "try again");
		op_fail(op);
	}
}

static void commit_done(void *ctx, int result) {
	struct op *op = ctx;
	if (result < 0) {
		fault_errno(&op->fault, result, "write the record");
		op_fail(op);
	} else
		op_next(op);
}

void op_commit(struct op *op, enum store_base base) {
	op->commit.fn = commit_done;
	op->commit.ctx = op;
	store_wait(op->m->store, base, &op->commit);
}

void op_join(struct op *op, struct msg_request *r) {
	struct joiner *j = arena_zalloc(&r->arena, sizeof(*j));
	if (!j) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s \"%s\": out of memory", op->class->name, op->object);
		return;
	}
	j->r = r;
	list_append(&op->joiners, &j->node);
}

void op_wait(struct op *op, struct op_after *after) {
	list_append(&op->after, &after->node);
}

struct requeued {
	struct op_after after;
	struct metadata *m;
	struct msg_request *r;
	const ProtobufCMessage *request;
	void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request);
};

static void requeue_run(void *ctx) {
	struct requeued *q = ctx;
	q->handle(q->m, q->r, q->request);
}

struct op_after *op_after_request(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
				  void (*handle)(struct metadata *m, struct msg_request *r,
						 const ProtobufCMessage *request)) {
	struct requeued *q = arena_zalloc(&r->arena, sizeof(*q));
	if (!q) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return NULL;
	}
	*q = (struct requeued){
		.after = { .fn = requeue_run, .ctx = q },
		.m = m,
		.r = r,
		.request = request,
		.handle = handle,
	};
	return &q->after;
}

void op_requeue(struct op *op, struct msg_request *r, const ProtobufCMessage *request,
		void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)) {
	struct op_after *after = op_after_request(op->m, r, request, handle);
	if (after)
		op_wait(op, after);
}
