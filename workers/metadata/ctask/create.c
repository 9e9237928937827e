/*
 * ctask_create: pod -> root -> process -> record; from a checkpoint with its
 * images before the process (restore.c). The root is asked for with the pod,
 * since another worker makes it and neither needs the other.
 *
 * The namespaces of the specification say what the pod is: one that is missing
 * is the host's, one with a path is joined, and any other is the pod's own. A
 * network namespace of its own has no network, as containerd's clients expect:
 * they bring it. What its container's sandbox has made is taken as it is.
 */
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/ctask/restore.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/metadata/guest.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/sweep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct create_op {
	struct op op;
	struct ctask *t;
	struct arena arena; /* of the request's copy, and of the container's */
	const Bulkhead__CtaskCreateRequest *request;
	const Bulkhead__ContainerBody *container;
	int root; /* detached mount; -1: the client's own mounts, or a path */
	struct msg_call *mounting;
	struct fault root_fault;
	bool root_awaited;
	struct ctask_restore restore;
};

static struct create_op *create_of(struct op *op) {
	return container_of(op, struct create_op, op);
}

/* --- namespaces ------------------------------------------------------------- */

static const Grpc__LinuxNamespace *namespace_of(const Grpc__Spec *spec, const char *type) {
	for (size_t i = 0; spec->linux && i < spec->linux->n_namespaces; i++)
		if (strcmp(spec->linux->namespaces[i]->type, type) == 0)
			return spec->linux->namespaces[i];
	return NULL;
}

static Bulkhead__NamespaceMode mode_of(const Grpc__Spec *spec, const char *type) {
	return namespace_of(spec, type) ? BULKHEAD__NAMESPACE_MODE__POD : BULKHEAD__NAMESPACE_MODE__NODE;
}

/* --- the root --------------------------------------------------------------- */

static void root_await(struct op *op) {
	struct create_op *c = create_of(op);
	c->root_awaited = true;
	if (c->mounting)
		return;
	if (c->root_fault.code != FAULT_NONE)
		op_fail_below(op, &c->root_fault);
	else
		op_next(op);
}

static void root_mounted(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct create_op *c = create_of(op);
	c->mounting = NULL;
	if (answer->fault)
		c->root_fault = *answer->fault;
	else
		c->root = take_fd(&answer->fds[0]);
	if (c->root_awaited)
		root_await(op);
}

static void root_mount(struct op *op) {
	struct create_op *c = create_of(op);
	const struct object *s =
	    snapshot_of_mounts(op->m, c->t->record->namespace_, c->request->rootfs, c->request->n_rootfs);
	if (!s)
		return;
	Bulkhead__SnapshotMountRequest q = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	bool view = s->record->snapshot->kind == BULKHEAD__SNAPSHOT_KIND__SNAPSHOT_VIEW;
	q.key = view ? (char *)"" : s->record->snapshot->disk;
	q.parents = s->record->snapshot->layers;
	q.n_parents = s->record->snapshot->n_layers;
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	c->mounting = snapshot_mount_send(op->m->snapshot, &context, &q, NULL, 0, root_mounted, op);
}

/* --- the pod ---------------------------------------------------------------- */

static void pod_started(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_below(op, answer->fault);
	else
		op_next(op);
}

static int pod_joins(const Grpc__Spec *spec, struct arena *a, Bulkhead__SandboxStartRequest *q) {
	static const char *const types[] = { "network", "ipc", "uts" };
	q->join = arena_alloc(a, ARRAY_SIZE(types) * sizeof(*q->join));
	for (size_t i = 0; q->join && i < ARRAY_SIZE(types); i++) {
		const Grpc__LinuxNamespace *n = namespace_of(spec, types[i]);
		if (n && *n->path)
			q->join[q->n_join++] = (Grpc__LinuxNamespace *)(uintptr_t)n;
	}
	return q->join ? 0 : -ENOMEM;
}

static void pod_start(struct op *op) {
	struct create_op *c = create_of(op);
	root_mount(op);
	if (!c->t->record->owns_pod) {
		op_next(op);
		return;
	}
	const Grpc__Spec *spec = c->container->parsed;
	Bulkhead__SandboxStartRequest q = BULKHEAD__SANDBOX_START_REQUEST__INIT;
	q.id = c->t->record->sandbox_id;
	q.name = c->t->record->container_id;
	q.namespace_ = c->t->record->namespace_;
	q.bare = true;
	q.network = mode_of(spec, "network");
	q.ipc = mode_of(spec, "ipc");
	q.uts = mode_of(spec, "uts");
	q.pid = BULKHEAD__NAMESPACE_MODE__CONTAINER;
	const Grpc__LinuxNamespace *uts = namespace_of(spec, "uts");
	if (uts && !*uts->path)
		q.hostname = *spec->hostname ? spec->hostname : c->t->record->container_id;
	if (pod_joins(spec, &c->arena, &q) < 0) {
		fault_errno(&op->fault, ENOMEM, "start");
		op_fail(op);
		return;
	}
	struct msg_context context = op_context(op, SANDBOX_START_TIMEOUT_NS);
	sandbox_start_send(op->m->task, &context, &q, NULL, 0, pod_started, op);
}

static void pod_undo(struct op *op) {
	const Bulkhead__CtaskRecord *r = create_of(op)->t->record;
	if (r->owns_pod)
		sweep_sandbox(op->m, r->sandbox_id);
	else
		sweep_task(op->m, r->sandbox_id, r->container_id);
}

/* --- a checkpoint ----------------------------------------------------------- */

static void checkpoint_unpack(struct op *op) {
	ctask_restore_unpack(op, &create_of(op)->restore);
}

static void checkpoint_open(struct op *op) {
	ctask_restore_open(op, &create_of(op)->restore);
}

/* --- the process ------------------------------------------------------------ */

static void process_created(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct ctask *t = create_of(op)->t;
	if (answer->fault) {
		op_fail_below(op, answer->fault);
		return;
	}
	/* Both rows have this reply. */
	const Bulkhead__TaskCreateReply *a = task_create_answer(answer);
	t->record->task = message_copy(&t->arena, &a->base);
	t->record->status = CTASK(CREATED);
	if (t->record->task) {
		op_next(op);
		return;
	}
	fault_errno(&op->fault, ENOMEM, "record");
	op_fail(op);
}

static Bulkhead__NamespaceMode pid_mode(const struct create_op *c) {
	if (!namespace_of(c->container->parsed, "pid"))
		return BULKHEAD__NAMESPACE_MODE__NODE;
	bool shared = c->request->sandbox_pid && !c->t->record->owns_pod;
	return shared ? BULKHEAD__NAMESPACE_MODE__POD : BULKHEAD__NAMESPACE_MODE__CONTAINER;
}

static void process_create(struct op *op) {
	struct create_op *c = create_of(op);
	Bulkhead__TaskCreateRequest q = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	Grpc__Spec *spec = c->container->parsed;
	const struct csandbox *in =
	    c->t->record->owns_pod ? NULL : csandbox_find_pod(&op->m->csandboxes, c->t->record->sandbox_id);
	q.sandbox_id = c->t->record->sandbox_id;
	q.container_id = c->t->record->container_id;
	q.runtime = in ? in->record->pod->runtime : (char *)"";
	q.spec = spec;
	q.stdio = c->request->stdio;
	q.pid_mode = pid_mode(c);
	struct msg_context context = op_context(op, TASK_CREATE_TIMEOUT_NS);
	if (c->root >= 0) {
		const int fds[] = { c->root, c->restore.images };
		q.restore = c->restore.images >= 0 ? &c->restore.pipes : NULL;
		task_create_send(op->m->task, &context, &q, fds, q.restore ? 2 : 1, process_created, op);
		fd_replace(&c->root, -1);
		fd_replace(&c->restore.images, -1);
		return;
	}
	q.rootfs = c->request->rootfs;
	q.n_rootfs = c->request->n_rootfs;
	task_create_bare_send(op->m->task, &context, &q, NULL, 0, process_created, op);
}

/* --- the record ------------------------------------------------------------- */

static void create_record(struct op *op) {
	struct ctask *t = create_of(op)->t;
	int r = ctask_save(op->m, t);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	t->made = true;
	op_commit(op, STORE_PODS);
}

static void create_unrecord(struct op *op) {
	struct ctask *t = create_of(op)->t;
	if (t->made && ctask_unsave(op->m, t) < 0)
		log_event(LOG_WARN, "record not deleted", "container", t->record->container_id, NULL);
	t->made = false;
}

/* --- of an agent's: what the guest brings ----------------------------------- */

static void devices_find(struct op *op) {
	guest_find_devices(op, create_of(op)->request->guest, create_of(op)->container->parsed);
}

static void storages_attach(struct op *op) {
	struct create_op *c = create_of(op);
	guest_attach_all(op, c->t->record->container_id, c->request->guest);
}

static void storages_detach(struct op *op) {
	guest_release(op->m, create_of(op)->t->record->container_id);
}

static const struct op_step create_steps[] = {
	{ .name = "find its devices", .run = devices_find },
	{ .name = "attach its storages", .run = storages_attach, .undo = storages_detach },
	{ .name = "start its pod", .run = pod_start, .undo = pod_undo },
	{ .name = "mount its root", .run = root_await },
	{ .name = "unpack its checkpoint", .run = checkpoint_unpack },
	{ .name = "open its checkpoint", .run = checkpoint_open },
	{ .name = "create its process", .run = process_create },
	{ .name = "record", .run = create_record, .undo = create_unrecord },
	{ .name = NULL },
};

static void create_answer(struct op *op, struct msg_request *r) {
	Bulkhead__CtaskPid a = BULKHEAD__CTASK_PID__INIT;
	a.pid = (uint32_t)create_of(op)->t->record->task->pid;
	ctask_create_reply(r, &a, NULL, 0);
}

static void create_free(struct op *op) {
	struct create_op *c = create_of(op);
	ctask_restore_taken(op->m, c->t);
	if (c->t->made) {
		ctask_tell(op->m, "/tasks/create", c->t, NULL);
		ctask_ended_meanwhile(op->m, c->t);
	} else {
		ctask_free(&op->m->ctasks, c->t);
	}
	msg_cancel(c->mounting);
	fd_close(c->root);
	fd_close(c->restore.images);
	arena_deinit(&c->arena);
	free(c);
}

static const struct op_class create_class = {
	.name = "create task",
	.steps = create_steps,
	.answer = create_answer,
	.free = create_free,
};

/* --- the request ------------------------------------------------------------ */

/* The one that the container names, if it does: it must run. */
static int sandbox_check(struct metadata *m, const Bulkhead__ObjectKey *id, const char *sandbox, struct fault *fault) {
	const struct csandbox *s = *sandbox ? csandbox_find(&m->csandboxes, id->namespace_, sandbox) : NULL;
	bool is_there = s && s->made;
	if (is_there && *s->record->pod->agent_socket)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "container \"%s\": who has the agent of sandbox \"%.76s\" makes its containers",
				 id->key, sandbox);
	if (!*sandbox || (is_there && !s->op && s->record->state == CSANDBOX(READY)))
		return 0;
	return fault_set(fault, is_there ? FAULT_FAILED_PRECONDITION : FAULT_NOT_FOUND,
			 "container \"%s\" belongs to sandbox \"%.76s\", which %s", id->key, sandbox,
			 !is_there				? "isn't there"
			 : s->record->state == CSANDBOX(PAUSED) ? "is paused: resume it first"
								: "isn't running");
}

/* The request's own, or the object's, which must be there then. */
static int container_of_request(struct metadata *m, const Bulkhead__CtaskCreateRequest *q,
				const Bulkhead__ObjectKey *id, const Bulkhead__ContainerBody **ret_container,
				struct fault *fault) {
	char text[CTASK_TEXT_MAX];
	const struct object *o = q->container ? NULL : object_find(&m->objects, id->kind, id->namespace_, id->key);
	*ret_container = o ? o->record->container : q->container;
	if (*ret_container)
		return 0;
	if (ctask_lender(m, id->namespace_, id->key))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "%s belongs to the CRI: start it there",
				 ctask_text(q->key, text));
	return fault_set(fault, FAULT_NOT_FOUND, "container \"%s\" in namespace \"%s\": not found", id->key,
			 id->namespace_);
}

static int container_check(struct metadata *m, const Bulkhead__ObjectKey *id, const Bulkhead__ContainerBody *b,
			   struct fault *fault) {
	const struct csandbox *in = *b->sandbox ? csandbox_find(&m->csandboxes, id->namespace_, b->sandbox) : NULL;
	if (!b->parsed || !b->parsed->process)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" can't run: %s", id->key,
				 b->parsed ? "its specification has no process" : b->spec_fault);
	/* Who asks for another kind of isolation mustn't be given less in silence. */
	if (b->runtime && csandbox_runtime_check(m, b->runtime->name, in, fault) < 0)
		return fault_prefix(fault, -EINVAL, "container \"%s\"", id->key);
	const Grpc__LinuxNamespace *pid = namespace_of(b->parsed, "pid");
	if (pid && *pid->path)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "container \"%s\": a pid namespace at a path (%.200s) can't be joined", id->key,
				 pid->path);
	return 0;
}

static int create_check(struct metadata *m, const Bulkhead__CtaskCreateRequest *q,
			const Bulkhead__ContainerBody **ret_container, struct fault *fault) {
	char text[CTASK_TEXT_MAX];
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	if (!q->key || *q->key->exec_id || !q->stdio)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "create task: the container's id is missing");
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_CONTAINER;
	id.namespace_ = q->key->namespace_;
	id.key = q->key->container_id;
	int r = object_key_check(&id, fault);
	if (r == 0)
		r = container_of_request(m, q, &id, ret_container, fault);
	if (r == 0 && ctask_find(&m->ctasks, id.namespace_, id.key))
		r = fault_set(fault, FAULT_ALREADY_EXISTS, "%s: already exists", ctask_text(q->key, text));
	if (r == 0)
		r = container_check(m, &id, *ret_container, fault);
	if (r == 0 && q->checkpoint && ctask_restore_check(m, q, *ret_container, fault) < 0)
		r = fault_prefix(fault, -EINVAL, "task \"%.76s\"", id.key);
	return r < 0 ? r : sandbox_check(m, &id, (*ret_container)->sandbox, fault);
}

static int task_new(struct metadata *m, const Bulkhead__CtaskCreateRequest *q, const char *sandbox,
		    struct ctask **ret_task) {
	const struct csandbox *in = *sandbox ? csandbox_find(&m->csandboxes, q->key->namespace_, sandbox) : NULL;
	Bulkhead__CtaskRecord record = BULKHEAD__CTASK_RECORD__INIT;
	char pod[ID_SIZE];
	id_random(pod);
	record.namespace_ = q->key->namespace_;
	record.container_id = q->key->container_id;
	record.sandbox_id = in ? in->record->pod->id : pod;
	record.owns_pod = !in;
	record.stdio = q->stdio;
	record.checkpoint = q->checkpoint ? q->checkpoint->digest : (char *)"";
	return ctask_add(&m->ctasks, &record, ret_task);
}

static int create_begin(struct metadata *m, struct msg_request *r, const Bulkhead__CtaskCreateRequest *q,
			const Bulkhead__ContainerBody *container) {
	struct create_op *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->root = c->restore.images = -1;
	snprintf(c->restore.digest, sizeof(c->restore.digest), "%s", q->checkpoint ? q->checkpoint->digest : "");
	arena_init(&c->arena, 0);
	c->request = message_copy(&c->arena, &q->base);
	bool own = c->request && c->request->container;
	c->container = own ? c->request->container : message_copy(&c->arena, &container->base);
	int e = c->request && c->container ? task_new(m, q, c->container->sandbox, &c->t) : -ENOMEM;
	if (e < 0) {
		arena_deinit(&c->arena);
		free(c);
		return e;
	}
	op_init(&c->op, &create_class, m, &c->t->op, q->key->container_id, r);
	op_join(&c->op, r);
	op_start(&c->op);
	return 0;
}

void ctask_create(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskCreateRequest *q = (const Bulkhead__CtaskCreateRequest *)request;
	const Bulkhead__ContainerBody *container = NULL;
	struct fault fault;
	/* An attempt that failed may still be on its way out. */
	if (metadata_gate(m, r, request, ctask_create) || sweep_gate(m, r, request, ctask_create))
		return;
	int e = create_check(m, q, &container, &fault);
	if (e == 0 && (e = create_begin(m, r, q, container)) < 0)
		fault_errno(&fault, e, "create task \"%s\"", q->key->container_id);
	if (e < 0)
		msg_fail(r, &fault);
}
