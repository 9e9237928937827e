/*
 * StartContainer: task_userns where the pod has one -> snapshot_mount of the root
 * and of each volume -> task_create (which executes) -> record.
 *
 * When the answer of task_create is lost with the task worker, its successor
 * tells how far it came: a process that was started is taken over, so that
 * none runs twice; anything less is deleted and made again. A failure ends the
 * container: kubelet makes another attempt under another number.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/fd.h"
#include "workers/metadata/container.h"
#include "workers/metadata/reconcile.h"
#include "workers/metadata/spec/spec.h"
#include "workers/metadata/sweep.h"
#include "workers/metadata/unit.h"
#include "workers/metadata/userns.h"
#include "workers/metadata/volume.h"

struct start_op {
	struct container_op co; /* first */
	int userns;		/* of the pod; -1 */
	/* The detached mounts that task_create takes: the root, then the volumes;
	 * then the folder of a checkpoint's images. */
	int mounts[2 + VOLUMES_MAX];
	size_t n_mounts;
	unsigned losses; /* of task workers at work on it; beyond op.attempts, which is of one step */
	int32_t pid;	 /* of the process that waits for its unit */
};

static void start_close(struct start_op *so) {
	while (so->n_mounts > 0)
		fd_close(so->mounts[--so->n_mounts]);
	fd_replace(&so->userns, -1);
}

static void start_userns_known(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault) {
		op_fail_with(op, answer->fault);
		return;
	}
	container_of(op, struct start_op, co.op)->userns = take_fd(&answer->fds[0]);
	op_next(op);
}

static void start_userns(struct op *op) {
	struct container *c = container_of_op(op);
	/* What an earlier try left behind has been deleted, its end with it. */
	c->record->exit = NULL;
	start_close(container_of(op, struct start_op, co.op));
	if (!userns_of(c->sandbox->record->config)) {
		op_next(op);
		return;
	}
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	q.id = c->record->sandbox_id;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	task_userns_send(op->m->task, &context, &q, NULL, 0, start_userns_known, op);
}

/* Owners of the files are those of the pod's user namespace. */
static void start_mount_send(struct op *op, const Bulkhead__SnapshotMountRequest *q, msg_done_fn done) {
	const int *userns = &container_of(op, struct start_op, co.op)->userns;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	if (*userns >= 0)
		snapshot_mount_mapped_send(op->m->snapshot, &context, q, userns, 1, done, op);
	else
		snapshot_mount_send(op->m->snapshot, &context, q, NULL, 0, done, op);
}

static void start_keep_mount(struct start_op *so, const struct msg_answer *answer) {
	so->mounts[so->n_mounts++] = take_fd(&answer->fds[0]);
}

static void start_mounted(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	start_keep_mount(container_of(op, struct start_op, co.op), answer);
	op_next(op);
}

static void start_mount(struct op *op) {
	const struct container *c = container_of_op(op);
	Bulkhead__SnapshotMountRequest q = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	q.key = c->record->id;
	q.n_parents = c->record->n_layers;
	q.parents = c->record->layers;
	start_mount_send(op, &q, start_mounted);
}

static void start_mount_volumes(struct op *op);

static void start_volume_mounted(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct start_op *so = container_of(op, struct start_op, co.op);
	if (answer->fault) {
		struct fault fault = *answer->fault;
		volume_prefix(so->co.c->record, so->n_mounts - 1, &fault);
		op_fail_below(op, &fault);
		return;
	}
	start_keep_mount(so, answer);
	start_mount_volumes(op);
}

/* One after the other. */
static void start_mount_volumes(struct op *op) {
	const struct start_op *so = container_of(op, struct start_op, co.op);
	const Bulkhead__ContainerRecord *r = so->co.c->record;
	Bulkhead__SnapshotMountRequest q = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	if (so->n_mounts == 1 + r->n_volumes) {
		op_next(op);
		return;
	}
	volume_request(r, so->n_mounts - 1, &q);
	start_mount_send(op, &q, start_volume_mounted);
}

static void start_checkpoint(struct op *op) {
	const struct container *c = container_of_op(op);
	Bulkhead__LayerFileRequest q = BULKHEAD__LAYER_FILE_REQUEST__INIT;
	if (!c->record->restore) {
		op_next(op);
		return;
	}
	q.chain_id = c->record->restore->layer;
	q.name = (char *)"checkpoint";
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	layer_file_send(op->m->snapshot, &context, &q, NULL, 0, start_mounted, op);
}

static void start_deleted(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault && answer->fault->code != FAULT_NOT_FOUND)
		op_fail_below(op, answer->fault);
	else
		op_again(op, 0, 0);
}

/* It runs, or did. */
static void start_succeeded(struct op *op, const Bulkhead__TaskCreateReply *t) {
	struct container *c = container_of_op(op);
	if (container_started(op->m, c, t) < 0) {
		/* A restart of ours would find it running. */
		fault_set(&op->fault, FAULT_RESOURCE_EXHAUSTED, "it runs, but its record can't be stored");
		op_fail(op);
		return;
	}
	/* A stop of the whole pod came between. */
	if (c->sandbox->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		container_ended(op->m, c, NULL);
	op_next(op);
}

static void start_delete(struct op *op) {
	struct container *c = container_of_op(op);
	Bulkhead__TaskKey q = BULKHEAD__TASK_KEY__INIT;
	q.sandbox_id = c->record->sandbox_id;
	q.container_id = c->record->id;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	task_delete_send(op->m->task, &context, &q, NULL, 0, start_deleted, op);
}

static void start_looked(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct container *c = container_of_op(op);
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	const Bulkhead__SandboxInfo *s = task_list_sandbox(task_list_answer(answer), c->record->sandbox_id);
	const Bulkhead__TaskInfo *t = s ? task_list_task(s, c->record->id) : NULL;
	if (!t || t->state == BULKHEAD__TASK_STATE__TASK_CREATED) {
		start_delete(op);
		return;
	}
	Bulkhead__TaskCreateReply a;
	task_info_reply(t, &a);
	c->record->exit = t->exit ? message_copy(&c->arena, &t->exit->base) : NULL;
	start_succeeded(op, &a);
}

static void start_waits(struct op *op, const Bulkhead__TaskCreateReply *t) {
	container_of(op, struct start_op, co.op)->pid = t->pid;
	op_next(op);
}

/* The answer may be lost with the task worker: its successor knows how far it came.
 * What an earlier life of this process began may still be ending. */
static void start_missed(struct op *op, const struct fault *fault) {
	struct start_op *so = container_of(op, struct start_op, co.op);
	bool lost = fault->code == FAULT_UNAVAILABLE || fault->code == FAULT_ALREADY_EXISTS;
	if (lost && ++so->losses < START_ATTEMPTS) {
		Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
		struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
		task_list_send(op->m->task, &context, &q, NULL, 0, start_looked, op);
	} else
		op_fail_below(op, fault);
}

static void start_created(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		start_missed(op, answer->fault);
	else if (units_used(op->m))
		start_waits(op, task_create_answer(answer));
	else
		start_succeeded(op, task_create_answer(answer));
}

static void start_gone(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		start_missed(op, answer->fault);
	else
		start_succeeded(op, task_start_answer(answer));
}

static void start_create(struct op *op) {
	struct start_op *so = container_of(op, struct start_op, co.op);
	struct container *c = so->co.c;
	Bulkhead__TaskCreateRequest q = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	struct arena a;
	arena_init(&a, 0);
	if (container_spec(op->m, c, &a, &q.spec, &op->fault) < 0 ||
	    unit_place_container(op->m, c, &a, q.spec, &op->fault) < 0) {
		arena_deinit(&a);
		op_fail(op);
		return;
	}
	const Runtime__V1__ContainerConfig *config = c->record->config;
	const Runtime__V1__LinuxContainerSecurityContext *sc = config->linux ? config->linux->security_context : NULL;
	q.sandbox_id = c->record->sandbox_id;
	q.container_id = c->record->id;
	q.runtime = c->sandbox->record->runtime_handler;
	q.log_path = spec_log_path(&a, c->sandbox->record, c->record);
	if (!q.log_path)
		q.log_path = (char *)"";
	q.stdin = config->stdin;
	q.stdin_once = config->stdin_once;
	q.start = !units_used(op->m);
	if (sc && sc->namespace_options) {
		q.pid_mode = (Bulkhead__NamespaceMode)sc->namespace_options->pid;
		q.target_container_id = sc->namespace_options->target_id;
	}
	q.stop_signal = spec_stop_signal(c->record);
	if (c->record->restore)
		q.restore = c->record->restore->pipes;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	task_create_send(op->m->task, &context, &q, so->mounts, so->n_mounts, start_created, op);
	arena_deinit(&a);
	/* The message has its own by now. */
	start_close(so);
}

/* --- with the systemd driver it waits for its scope ------------------------- */

static void start_scope(struct op *op) {
	struct start_op *so = container_of(op, struct start_op, co.op);
	unit_step_container(op, so->co.c, so->pid);
}

static void start_unscope(struct op *op) {
	const struct container *c = container_of_op(op);
	if (units_used(op->m))
		sweep_task(op->m, c->record->sandbox_id, c->record->id);
}

static void start_go(struct op *op) {
	const struct container *c = container_of_op(op);
	Bulkhead__TaskKey q = BULKHEAD__TASK_KEY__INIT;
	if (!units_used(op->m)) {
		op_next(op);
		return;
	}
	q.sandbox_id = c->record->sandbox_id;
	q.container_id = c->record->id;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	task_start_send(op->m->task, &context, &q, NULL, 0, start_gone, op);
}

static void start_commit(struct op *op) {
	op_commit(op, STORE_PODS);
}

static void start_undo(struct op *op) {
	struct container *c = container_of_op(op);
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_MADE)
		container_start_failed(op->m, c, op->fault.text);
}

static const struct op_step start_steps[] = {
	{ .name = "find its user namespace", .run = start_userns, .undo = start_undo },
	{ .name = "mount its root", .run = start_mount },
	{ .name = "mount its volumes", .run = start_mount_volumes },
	{ .name = "open its checkpoint", .run = start_checkpoint },
	{ .name = "create its process", .run = start_create },
	{ .name = "make its scope", .run = start_scope, .undo = start_unscope },
	{ .name = "start its process", .run = start_go },
	{ .name = "record", .run = start_commit },
	{ .name = NULL },
};

static void start_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__StartContainerResponse a = RUNTIME__V1__START_CONTAINER_RESPONSE__INIT;
	cri_start_container_reply(r, &a, NULL, 0);
}

static void start_free(struct op *op) {
	struct start_op *so = container_of(op, struct start_op, co.op);
	start_close(so);
	free(so);
}

static const struct op_class start_class = {
	.name = "start container",
	.steps = start_steps,
	.answer = start_answer,
	.free = start_free,
};

static void start_begin(struct metadata *m, struct container *c, struct msg_request *r) {
	struct start_op *so = calloc(1, sizeof(*so));
	if (!so) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "start container: out of memory");
		return;
	}
	op_init(&so->co.op, &start_class, m, &c->op, c->record->config->metadata->name, r);
	so->co.c = c;
	so->userns = -1;
	op_join(&so->co.op, r);
	op_start(&so->co.op);
}

void cri_start_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__StartContainerRequest *q = (const Runtime__V1__StartContainerRequest *)request;
	struct container *c;
	struct fault fault;
	if (metadata_gate(m, r, request, cri_start_container))
		return;
	int e = model_find_container(&m->model, q->container_id, &c, &fault);
	if (e == 0 && c->op && c->op->class == &start_class) {
		op_join(c->op, r);
		return;
	}
	if (e == 0 && (c->op || c->sandbox->op)) {
		op_requeue(c->op ? c->op : c->sandbox->op, r, request, cri_start_container);
		return;
	}
	if (e == 0 && c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP) {
		start_answer(NULL, r); /* the same request came again */
		return;
	}
	if (e == 0 && c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED)
		e = fault_set(&fault, FAULT_FAILED_PRECONDITION, "container \"%s\" has ended: create another attempt",
			      c->record->id);
	if (e == 0 && c->sandbox->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		e = fault_set(&fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" isn't ready",
			      c->sandbox->record->id);
	if (e < 0) {
		fault_prefix(&fault, 0, "start container");
		msg_fail(r, &fault);
	} else
		start_begin(m, c, r);
}
