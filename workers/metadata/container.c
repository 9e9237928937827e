/*
 * CreateContainer, RemoveContainer, StopContainer; what passes on to the task
 * worker.
 *
 *   create  snapshot_prepare -> record
 *   remove  task_stop when it runs -> record deleted -> the rest is swept
 *
 * A container that is being made has its name in the model from the first
 * moment, so that the same request joins it, and no created_at, so that nobody
 * sees it. Stopping is no operation: nothing of it needs undoing, the end of
 * the process is the record.
 */
#include "workers/metadata/cri.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/check.h"
#include "workers/metadata/container.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/spec/spec.h"
#include "workers/metadata/sweep.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SNAPSHOT_TIMEOUT_NS (120 * NS_PER_SEC)

void container_op_free(struct op *op) {
	free(container_of(op, struct container_op, op));
}

struct container *container_of_op(struct op *op) {
	return container_of(op, struct container_op, op)->c;
}

struct container_op *container_op_new(struct metadata *m, const struct op_class *class, struct container *c,
				      struct msg_request *r) {
	struct container_op *co = calloc(1, sizeof(*co));
	if (!co) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", class->name);
		return NULL;
	}
	op_init(&co->op, class, m, &c->op, c->record->config->metadata->name, r);
	co->c = c;
	snprintf(co->id, sizeof(co->id), "%s", c->record->id);
	op_join(&co->op, r);
	return co;
}

int container_spec(struct metadata *m, struct container *c, struct arena *a, Grpc__Spec **ret_spec,
		   struct fault *fault) {
	char host[HOST_NAME_MAX + 1] = "";
	const struct spec_input in = {
		.sandbox = c->sandbox->record,
		.container = c->record,
		.pods_dir = arena_printf(a, "%s/pods", m->config->run_root),
		.hostname = arena_strdup(a, gethostname(host, sizeof(host) - 1) == 0 ? host : ""),
	};
	if (!in.pods_dir || !in.hostname)
		return fault_errno(fault, ENOMEM, "build the runtime spec");
	return spec_build(a, &in, ret_spec, fault);
}

/* --- create ----------------------------------------------------------------- */

static void create_prepared(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_with(op, answer->fault);
	else
		op_next(op);
}

static void create_prepare(struct op *op) {
	struct container *c = container_of_op(op);
	Bulkhead__SnapshotPrepareRequest q = BULKHEAD__SNAPSHOT_PREPARE_REQUEST__INIT;
	q.key = c->record->id;
	q.n_parents = c->record->n_layers;
	q.parents = c->record->layers;
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	snapshot_prepare_send(op->m->snapshot, &context, &q, NULL, 0, create_prepared, op);
}

/* The container leaves with its snapshot. */
static void create_undo(struct op *op) {
	struct container *c = container_of_op(op);
	char key[KEY_SIZE];
	container_key(c->record->id, key);
	if (store_delete(op->m->store, STORE_PODS, key) < 0)
		log_event(LOG_WARN, "record not deleted", "container", c->record->id, NULL);
	op->slot = NULL;
	model_drop_container(&op->m->model, c);
	sweep_container(op->m, c, NULL);
}

static void create_record(struct op *op) {
	struct container *c = container_of_op(op);
	c->record->created_at = clock_real();
	int r = container_save(op->m, c);
	if (r < 0) {
		fault_errno(&op->fault, r, "store the record");
		op_fail(op);
	} else
		op_commit(op, STORE_PODS);
}

static void create_publish(struct op *op) {
	struct container *c = container_of_op(op);
	events_add(&op->m->events, EVENT_CREATED, c->record->sandbox_id, c->record->id);
	op_next(op);
}

static const struct op_step create_steps[] = {
	{ .name = "prepare its snapshot", .run = create_prepare, .undo = create_undo },
	{ .name = "record", .run = create_record },
	{ .name = "publish", .run = create_publish },
	{ .name = NULL },
};

static void create_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__CreateContainerResponse a = RUNTIME__V1__CREATE_CONTAINER_RESPONSE__INIT;
	a.container_id = container_of(op, struct container_op, op)->id;
	cri_create_container_reply(r, &a, NULL, 0);
}

static const struct op_class create_class = {
	.name = "create container",
	.steps = create_steps,
	.answer = create_answer,
	.free = container_op_free,
};

/* The container of this name is there already. */
static void create_again(struct container *c, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ContainerMetadata *name = c->record->config->metadata;
	if (c->op && c->op->class == &create_class)
		op_join(c->op, r);
	else if (c->op)
		op_requeue(c->op, r, request, cri_create_container);
	else if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED)
		msg_failf(r, FAULT_ALREADY_EXISTS,
			  "create container \"%s\": attempt %u of it has ended (%s): remove it first", name->name,
			  name->attempt, c->record->id);
	else {
		Runtime__V1__CreateContainerResponse a = RUNTIME__V1__CREATE_CONTAINER_RESPONSE__INIT;
		a.container_id = c->record->id;
		cri_create_container_reply(r, &a, NULL, 0);
	}
}

/* What the container takes from its image stays with it, whatever happens to
 * the image later. */
static int take_image(struct metadata *m, const Runtime__V1__ContainerConfig *config, Bulkhead__ContainerRecord *record,
		      struct fault *fault) {
	struct image *i = model_find_image(&m->model, config->image->image);
	if (!i || i->broken)
		return fault_set(fault, FAULT_NOT_FOUND, "image \"%.256s\": not found: pull it first",
				 config->image->image);
	record->image_id = i->record->id;
	record->image_ref = i->record->n_digests ? i->record->digests[0] : i->record->id;
	record->image_config = i->record->image_config;
	record->n_layers = i->record->n_layers;
	record->layers = i->record->layers;
	return 0;
}

static int create_make(struct metadata *m, struct sandbox *s, const Runtime__V1__CreateContainerRequest *q,
		       struct container **ret_container, struct fault *fault) {
	Bulkhead__ContainerRecord record = BULKHEAD__CONTAINER_RECORD__INIT;
	Runtime__V1__ContainerConfig config = *q->config;
	Grpc__Spec *spec;
	char id[ID_SIZE];
	int r = take_image(m, q->config, &record, fault);
	if (r < 0)
		return r;
	id_random(id);
	record.id = id;
	record.sandbox_id = s->record->id;
	record.config = &config;
	struct container *c = model_add_container(&m->model, &record);
	if (!c)
		return fault_errno(fault, errno, "keep its record");
	/* Whatever can't run is refused now, not at its start. */
	struct arena a;
	arena_init(&a, 0);
	r = container_spec(m, c, &a, &spec, fault);
	arena_deinit(&a);
	if (r < 0) {
		model_free_container(&m->model, c);
		return r;
	}
	*ret_container = c;
	return 0;
}

void cri_create_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__CreateContainerRequest *q = (const Runtime__V1__CreateContainerRequest *)request;
	struct sandbox *s;
	struct container *c;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_create_container))
		return;
	int e = check_container_config(q->config, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "create container");
		msg_fail(r, &fault);
		return;
	}
	const char *name = q->config->metadata->name;
	e = model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault);
	if (e == 0 && s->op) {
		op_requeue(s->op, r, request, cri_create_container);
		return;
	}
	if (e == 0 && s->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		e = fault_set(&fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" isn't ready", s->record->id);
	c = e == 0 ? model_container_by_name(&m->model, s->record->id, q->config->metadata) : NULL;
	if (c) {
		create_again(c, r, request);
		return;
	}
	if (e == 0)
		e = create_make(m, s, q, &c, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "create container \"%s\"", name);
		msg_fail(r, &fault);
		return;
	}
	struct container_op *co = container_op_new(m, &create_class, c, r);
	if (co)
		op_start(&co->op);
	else
		model_free_container(&m->model, c);
}

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
	char key[KEY_SIZE];
	container_key(container_of_op(op)->record->id, key);
	int r = store_delete(op->m->store, STORE_PODS, key);
	if (r < 0) {
		fault_errno(&op->fault, r, "delete the record");
		op_fail(op);
	} else
		op_commit(op, STORE_PODS);
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
	char id[KEY_SIZE];
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

static void stop_begin(struct metadata *m, struct container *c, struct msg_request *r, int64_t timeout) {
	struct stopping *st = calloc(1, sizeof(*st));
	if (!st) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "stop container: out of memory");
		return;
	}
	*st = (struct stopping){ .m = m, .r = r };
	st->commit = (struct store_waiter){ .fn = stop_committed, .ctx = st };
	snprintf(st->id, sizeof(st->id), "%s", c->record->id);
	Bulkhead__TaskStopRequest q = BULKHEAD__TASK_STOP_REQUEST__INIT;
	q.sandbox_id = c->record->sandbox_id;
	q.container_id = c->record->id;
	q.signal = spec_stop_signal(c->record);
	q.grace_ns = timeout <= 0 ? 0 : (uint64_t)MIN(timeout, INT64_MAX / NS_PER_SEC) * NS_PER_SEC;
	/* Without the caller's deadline: the signal is sent, and the grace
	 * period goes on, whether or not anybody waits. */
	struct msg_context context = r->context;
	context.deadline = 0;
	task_stop_send(m->task, &context, &q, NULL, 0, stop_stopped, st);
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
