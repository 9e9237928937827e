/*
 * StopPodSandbox: sandbox_stop -> record (DOWN, containers ended).
 * RemovePodSandbox: stop unless down -> records deleted -> the rest is swept.
 *
 * Neither has anything to undo: a stop that failed is asked for again.
 */
#include "workers/metadata/handlers.h"

#include "workers/metadata/object/object.h"
#include "workers/metadata/sandbox.h"

#include <stdlib.h>

/* --- stop ------------------------------------------------------------------- */

static void stop_stopped(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		op_fail_with(op, answer->fault);
	else
		op_next(op);
}

static void stop_send(struct op *op) {
	struct sandbox *s = sandbox_of(op);
	Bulkhead__SandboxStopRequest q = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	struct arena a;
	if (s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_DOWN && s->network_down) {
		op_next(op);
		return;
	}
	arena_init(&a, 0);
	size_t n = 0;
	list_for_each (it, &s->containers)
		n++;
	q.id = s->record->id;
	q.container_ids = arena_zalloc(&a, (n + 1) * sizeof(char *));
	if (q.container_ids)
		list_for_each (it, &s->containers)
			q.container_ids[q.n_container_ids++] = list_entry(it, struct container, in_sandbox)->record->id;
	struct msg_context c = op_context(op, 0);
	sandbox_stop_send(op->m->task, &c, &q, NULL, 0, stop_stopped, op);
	arena_deinit(&a);
}

static void stop_record(struct op *op) {
	sandbox_went_down(op->m, sandbox_of(op));
	op_commit(op, STORE_PODS);
}

static const struct op_step stop_steps[] = {
	{ .name = "stop", .run = stop_send },
	{ .name = "record", .run = stop_record },
	{ .name = NULL },
};

static void stop_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__StopPodSandboxResponse a = RUNTIME__V1__STOP_POD_SANDBOX_RESPONSE__INIT;
	cri_stop_pod_sandbox_reply(r, &a, NULL, 0);
}

static const struct op_class stop_class = {
	.name = "stop pod sandbox",
	.steps = stop_steps,
	.answer = stop_answer,
	.free = sandbox_op_free,
};

void sandbox_stop_begin(struct metadata *m, struct sandbox *s, struct msg_request *r) {
	struct sandbox_op *so = sandbox_op_new(m, &stop_class, s, r);
	if (so)
		op_start(&so->op);
}

void cri_stop_pod_sandbox(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__StopPodSandboxRequest *q = (const Runtime__V1__StopPodSandboxRequest *)request;
	struct sandbox *s;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_stop_pod_sandbox))
		return;
	int e = model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault);
	if (e < 0 && fault.code != FAULT_NOT_FOUND) {
		fault_prefix(&fault, 0, "stop pod sandbox");
		msg_fail(r, &fault);
	} else if (e < 0)
		stop_answer(NULL, r);
	else if (s->op && s->op->class == &stop_class)
		op_join(s->op, r);
	else if (s->op)
		op_requeue(s->op, r, request, cri_stop_pod_sandbox);
	else
		sandbox_stop_begin(m, s, r);
}

/* --- remove ----------------------------------------------------------------- */

struct remove_op {
	struct sandbox_op so; /* first: sandbox_of works on it */
	struct op_after after;
};

/* Operations on its containers end first; no new ones begin meanwhile. */
static void remove_wait(struct op *op) {
	struct remove_op *ro = container_of(op, struct remove_op, so.op);
	list_for_each (n, &ro->so.s->containers) {
		struct container *c = list_entry(n, struct container, in_sandbox);
		if (!c->op)
			continue;
		op_wait(c->op, &ro->after);
		return;
	}
	op_next(op);
}

static void remove_waited(void *ctx) {
	remove_wait(ctx);
}

static void remove_records(struct op *op) {
	struct sandbox *s = sandbox_of(op);
	char key[KEY_SIZE];
	int r = 0;
	/* Those that a process ended meanwhile; usually stop did it. */
	sandbox_went_down(op->m, s);
	list_for_each (n, &s->containers) {
		container_key(list_entry(n, struct container, in_sandbox)->record->id, key);
		if (r == 0)
			r = store_delete(op->m->store, STORE_PODS, key);
	}
	sandbox_key(s->record->id, key);
	if (r == 0)
		r = store_delete(op->m->store, STORE_PODS, key);
	if (r < 0) {
		fault_errno(&op->fault, r, "delete the records");
		op_fail(op);
		return;
	}
	op_commit(op, STORE_PODS);
	list_for_each (n, &s->containers) {
		const struct container *c = list_entry(n, struct container, in_sandbox);
		events_add(&op->m->events, EVENT_DELETED, s->record->id, c->record->id);
		container_view_tell(op->m, CONTAINER_NEWS_GONE, c);
	}
	events_add(&op->m->events, EVENT_DELETED, s->record->id, NULL);
	sandbox_view_tell(op->m, CONTAINER_NEWS_GONE, s);
}

static void remove_forget(struct op *op) {
	struct sandbox *s = sandbox_of(op);
	op->slot = NULL;
	sandbox_forget(op->m, s);
	op_next(op);
}

static const struct op_step remove_steps[] = {
	{ .name = "wait for its containers", .run = remove_wait },
	{ .name = "stop", .run = stop_send },
	{ .name = "delete the records", .run = remove_records },
	{ .name = "forget", .run = remove_forget },
	{ .name = NULL },
};

static void remove_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__RemovePodSandboxResponse a = RUNTIME__V1__REMOVE_POD_SANDBOX_RESPONSE__INIT;
	cri_remove_pod_sandbox_reply(r, &a, NULL, 0);
}

static const struct op_class remove_class = {
	.name = "remove pod sandbox",
	.steps = remove_steps,
	.answer = remove_answer,
	.free = sandbox_op_free,
};

static void remove_begin(struct metadata *m, struct sandbox *s, struct msg_request *r) {
	struct remove_op *ro = calloc(1, sizeof(*ro));
	if (!ro) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "remove pod sandbox: out of memory");
		return;
	}
	op_init(&ro->so.op, &remove_class, m, &s->op, s->record->config->metadata->name, r);
	ro->so.s = s;
	ro->after = (struct op_after){ .fn = remove_waited, .ctx = &ro->so.op };
	op_join(&ro->so.op, r);
	op_start(&ro->so.op);
}

void cri_remove_pod_sandbox(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__RemovePodSandboxRequest *q = (const Runtime__V1__RemovePodSandboxRequest *)request;
	struct sandbox *s;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_remove_pod_sandbox))
		return;
	int e = model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault);
	if (e < 0 && fault.code != FAULT_NOT_FOUND) {
		fault_prefix(&fault, 0, "remove pod sandbox");
		msg_fail(r, &fault);
	} else if (e < 0)
		remove_answer(NULL, r);
	else if (s->op && s->op->class == &remove_class)
		op_join(s->op, r);
	else if (s->op)
		op_requeue(s->op, r, request, cri_remove_pod_sandbox);
	else
		remove_begin(m, s, r);
}
