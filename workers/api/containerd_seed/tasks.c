/*
 * containerd.v1.services.execution.Tasks. A pid names a process; there is no
 * Wait, an exit is an event.
 */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/execution.pb-c.h"
#include "workers/api/containerd/oci_json.h"
#include "workers/api/task_request.h"

#include <string.h>

#define X(name) Containerd__Seed__Execution__##name
#define X_INIT(name) CONTAINERD__SEED__EXECUTION__##name##__INIT
#define T(name) Containerd__Seed__Types__##name
#define T_INIT(name) CONTAINERD__SEED__TYPES__##name##__INIT
#define KILL(name) CONTAINERD__SEED__EXECUTION__KILL_REQUEST__PID_OR_ALL_##name
#define EVENT(name) CONTAINERD__SEED__TYPES__EVENT__EVENT_TYPE__##name

/* --- parts of requests ------------------------------------------------------ */

static Bulkhead__CtaskKey *key(struct grpc_translation *t, char *container_id, uint32_t pid) {
	Bulkhead__CtaskKey *k = ARENA_NEW(t->arena, Bulkhead__CtaskKey, BULKHEAD__CTASK_KEY__INIT);
	if (k) {
		k->namespace_ = ctd_namespace(t);
		k->container_id = container_id;
		k->pid = pid;
	}
	return k;
}

/* --- life ------------------------------------------------------------------- */

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const X(CreateRequest) *q = (const X(CreateRequest) *)request;
	Bulkhead__CtaskCreateRequest *i = ctd_task_create(
	    t, key(t, q->container_id, 0), task_stdio(t->arena, q->stdin, q->stdout, q->stderr, q->terminal));
	if (!i || !(i->rootfs = ctd_seed_mounts(t, q->rootfs, q->n_rootfs)))
		return grpc_no_memory(fault);
	if (q->checkpoint && !(i->checkpoint = ctd_seed_descriptor(t, q->checkpoint)))
		return grpc_no_memory(fault);
	i->n_rootfs = q->n_rootfs;
	*ret_internal = &i->base;
	return 0;
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	X(CreateResponse) *a = (X(CreateResponse) *)*reply;
	a->container_id = t->state ? t->state : (char *)"";
	a->pid = ((const Bulkhead__CtaskPid *)internal)->pid;
	return 0;
}

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return task_key_request(key(t, ((const X(StartRequest) *)request)->container_id, 0), ret_internal, fault);
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return task_key_request(key(t, ((const X(DeleteRequest) *)request)->container_id, 0), ret_internal, fault);
}

static int drop_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__CtaskExit *e = (const Bulkhead__CtaskExit *)internal;
	X(DeleteResponse) *a = (X(DeleteResponse) *)*reply;
	a->container_id = e->key ? e->key->container_id : (char *)"";
	a->exit_status = e->exit_status;
	a->exited_at = ctd_time(t, e->exited_at);
	return 0;
}

/* --- looking ---------------------------------------------------------------- */

static T(Task) * task(struct grpc_translation *t, const Bulkhead__CtaskProcess *from) {
	T(Task) *to = ARENA_NEW(t->arena, T(Task), T_INIT(TASK));
	if (!to || !from->key)
		return NULL;
	to->id = to->container_id = from->key->container_id;
	to->pid = from->pid;
	to->status = (T(Status))from->status; /* the same numbers */
	to->spec = ctd_any(t, from->spec);
	return to;
}

static int list_request(struct grpc_translation *t, char *container_id, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	Bulkhead__CtaskListRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__CtaskListRequest, BULKHEAD__CTASK_LIST_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	q->namespace_ = ctd_namespace(t);
	q->container_id = container_id;
	q->specs = true;
	*ret_internal = &q->base;
	return 0;
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return list_request(t, (char *)"", ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__CtaskList *l = (const Bulkhead__CtaskList *)internal;
	X(ListResponse) *a = (X(ListResponse) *)*reply;
	if (!(a->tasks = arena_alloc(t->arena, (l->n_tasks + 1) * sizeof(*a->tasks))))
		return grpc_no_memory(fault);
	for (; a->n_tasks < l->n_tasks; a->n_tasks++)
		if (!(a->tasks[a->n_tasks] = task(t, l->tasks[a->n_tasks])))
			return grpc_no_memory(fault);
	return 0;
}

static int info(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const X(InfoRequest) *q = (const X(InfoRequest) *)request;
	if (!*q->container_id)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "task: the container's id is missing");
	return list_request(t, q->container_id, ret_internal, fault);
}

static int info_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__CtaskList *l = (const Bulkhead__CtaskList *)internal;
	X(InfoResponse) *a = (X(InfoResponse) *)*reply;
	if (l->n_tasks != 1)
		return fault_set(fault, FAULT_INTERNAL, "the metadata worker has sent %zu tasks for one", l->n_tasks);
	if (!(a->task = task(t, l->tasks[0])))
		return grpc_no_memory(fault);
	return 0;
}

static int processes(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		     struct fault *fault) {
	return task_key_request(key(t, ((const X(ProcessesRequest) *)request)->container_id, 0), ret_internal, fault);
}

/* Of processes that a container has made itself nothing but the pid is known,
 * and that age's daemon told nothing else of any. */
static int processes_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			   struct fault *fault) {
	const Bulkhead__TaskPidsReply *l = (const Bulkhead__TaskPidsReply *)internal;
	X(ProcessesResponse) *a = (X(ProcessesResponse) *)*reply;
	if (!(a->processes = arena_alloc(t->arena, (l->n_pids + 1) * sizeof(*a->processes))))
		return grpc_no_memory(fault);
	for (; a->n_processes < l->n_pids; a->n_processes++) {
		T(Process) *to = ARENA_NEW(t->arena, T(Process), T_INIT(PROCESS));
		if (!to)
			return grpc_no_memory(fault);
		to->pid = (uint32_t)l->pids[a->n_processes]->pid;
		a->processes[a->n_processes] = to;
	}
	return 0;
}

/* --- events ----------------------------------------------------------------- */

static int follow(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__BusFollowRequest *f =
	    ARENA_NEW(t->arena, Bulkhead__BusFollowRequest, BULKHEAD__BUS_FOLLOW_REQUEST__INIT);
	if (!f)
		return grpc_no_memory(fault);
	*ret_internal = &f->base;
	return 0;
}

/* An added process is told of once it has the pid by which it is known. */
static const struct topic {
	const char *name;
	T(Event__EventType) type;
} topics[] = {
	{ "/tasks/create", EVENT(CREATE) },
	{ "/tasks/start", EVENT(START) },
	{ "/tasks/exec-started", EVENT(EXEC_ADDED) },
	{ "/tasks/exit", EVENT(EXIT) },
	{ "/tasks/oom", EVENT(OOM) },
	{ "/tasks/paused", EVENT(PAUSED) },
};

static const struct topic *topic_of(struct grpc_translation *t, const Bulkhead__BusEvent *e) {
	if (e->published || strcmp(e->namespace_, ctd_namespace(t)) != 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		if (strcmp(topics[i].name, e->topic) == 0)
			return &topics[i];
	return NULL;
}

static int event(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		 struct fault *fault) {
	const Bulkhead__BusEvent *e = (const Bulkhead__BusEvent *)internal;
	const struct topic *topic = topic_of(t, e);
	T(Event) *a = (T(Event) *)*reply;
	if (!topic) {
		*reply = NULL; /* nothing that this age has a name for */
		return 0;
	}
	a->id = e->id;
	a->type = topic->type;
	a->pid = e->pid;
	if (topic->type == EVENT(EXIT)) {
		a->exit_status = e->exit_status;
		a->exited_at = ctd_time(t, e->exited_at);
	}
	return 0;
}

/* --- processes -------------------------------------------------------------- */

static int kill(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const X(KillRequest) *q = (const X(KillRequest) *)request;
	bool one = q->pid_or_all_case == KILL(PID), all = q->pid_or_all_case == KILL(ALL) && q->all;
	return task_kill_request(t->arena, key(t, q->container_id, one ? q->pid : 0), q->signal, all, false,
				 ret_internal, fault);
}

static int exec(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const X(ExecRequest) *q = (const X(ExecRequest) *)request;
	return ctd_task_exec(t, key(t, q->container_id, 0),
			     task_stdio(t->arena, q->stdin, q->stdout, q->stderr, q->terminal), q->spec, ret_internal,
			     fault);
}

static int exec_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	X(ExecResponse) *a = (X(ExecResponse) *)*reply;
	a->pid = ((const Bulkhead__CtaskPid *)internal)->pid;
	return 0;
}

static int pty(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	const X(PtyRequest) *q = (const X(PtyRequest) *)request;
	return task_resize_request(t->arena, key(t, q->container_id, q->pid), q->width, q->height, ret_internal, fault);
}

static int close_stdin(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault) {
	const X(CloseStdinRequest) *q = (const X(CloseStdinRequest) *)request;
	return task_key_request(key(t, q->container_id, q->pid), ret_internal, fault);
}

/* --- the whole container ---------------------------------------------------- */

static int pause(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return task_freeze_request(t->arena, key(t, ((const X(PauseRequest) *)request)->container_id, 0), true,
				   ret_internal, fault);
}

static int resume(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	return task_freeze_request(t->arena, key(t, ((const X(ResumeRequest) *)request)->container_id, 0), false,
				   ret_internal, fault);
}

/* --- checkpoints ------------------------------------------------------------ */

static const char *not_served(const X(CheckpointRequest) * q) {
	return *q->parent_checkpoint   ? "a parent"
	       : q->allow_tcp	       ? "that connections are kept"
	       : q->allow_unix_sockets ? "that sockets to others are kept"
	       : q->allow_terminal     ? "that a terminal is kept"
	       : q->n_empty_namespaces ? "an empty namespace"
				       : NULL;
}

static int checkpoint(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		      struct fault *fault) {
	const X(CheckpointRequest) *q = (const X(CheckpointRequest) *)request;
	const struct task_checkpoint wants = {
		.exit = q->exit,
		.config_type = (char *)"application/vnd.containerd.container.checkpoint.config.v1+json",
		.config_bare = true,
		.lease = ctd_lease(t),
		.not_served = not_served(q),
	};
	return task_checkpoint_request(t->arena, key(t, q->container_id, 0), &wants, ret_internal, fault);
}

static int checkpoint_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			    struct fault *fault) {
	const Bulkhead__CtaskCheckpoint *c = (const Bulkhead__CtaskCheckpoint *)internal;
	X(CheckpointResponse) *a = (X(CheckpointResponse) *)*reply;
	if (!(a->descriptors = arena_alloc(t->arena, 2 * sizeof(*a->descriptors))) ||
	    !(a->descriptors[0] = ctd_seed_descriptor_back(t, c->images)) ||
	    !(a->descriptors[1] = ctd_seed_descriptor_back(t, c->config)))
		return grpc_no_memory(fault);
	a->n_descriptors = 2;
	return 0;
}

static const struct grpc_translator on_create = { create, create_reply }, on_start = { .request = start },
				    on_delete = { drop, drop_reply }, on_info = { info, info_reply },
				    on_list = { list, list_reply }, on_kill = { .request = kill },
				    on_events = { follow, event }, on_exec = { exec, exec_reply },
				    on_pty = { .request = pty }, on_close_stdin = { .request = close_stdin },
				    on_pause = { .request = pause }, on_resume = { .request = resume },
				    on_processes = { processes, processes_reply },
				    on_checkpoint = { checkpoint, checkpoint_reply };

const struct grpc_method ctd_seed_tasks_methods[] = {
	{ .name = "Create", .number = MSG_ctask_create, .translator = &on_create, .changes = true },
	{ .name = "Start", .number = MSG_ctask_start, .translator = &on_start, .changes = true },
	{ .name = "Delete", .number = MSG_ctask_delete, .translator = &on_delete, .changes = true },
	{ .name = "Info", .number = MSG_ctask_list, .translator = &on_info },
	{ .name = "List", .number = MSG_ctask_list, .translator = &on_list },
	{ .name = "Kill", .number = MSG_ctask_kill, .translator = &on_kill, .changes = true },
	{ .name = "Events", .number = MSG_bus_follow, .translator = &on_events },
	{ .name = "Exec", .number = MSG_ctask_spawn, .translator = &on_exec, .changes = true },
	{ .name = "Pty", .number = MSG_ctask_resize, .translator = &on_pty },
	{ .name = "CloseStdin", .number = MSG_ctask_close_stdin, .translator = &on_close_stdin },
	{ .name = "Pause", .number = MSG_ctask_freeze, .translator = &on_pause, .changes = true },
	{ .name = "Resume", .number = MSG_ctask_freeze, .translator = &on_resume, .changes = true },
	{ .name = "Processes", .number = MSG_ctask_pids, .translator = &on_processes },
	{ .name = "Checkpoint", .number = MSG_ctask_checkpoint, .translator = &on_checkpoint, .changes = true },
	{ 0 },
};
