/*
 * containerd.services.tasks.v1.Tasks. The specification of another process is
 * parsed here, as the container's is. Options of a runtime are for runtimes
 * that aren't ours: what they could change (other programs, other folders) a
 * client has no say in. That criu's images lie in a folder of the client's is
 * refused; they are content.
 */
#include "workers/api/containerd/containerd.h"

#include "containerd/runc_options.pb-c.h"
#include "containerd/tasks.pb-c.h"
#include "workers/api/containerd/metrics.h"
#include "workers/api/containerd/oci_json.h"
#include "workers/api/containerd/streams.h"
#include "workers/api/task_request.h"

#include <string.h>

#define T(name) Containerd__Services__Tasks__V1__##name
#define T_INIT(name) CONTAINERD__SERVICES__TASKS__V1__##name##__INIT
#define P(name) Containerd__V1__Types__##name
#define P_INIT(name) CONTAINERD__V1__TYPES__##name##__INIT

/* --- parts of requests ------------------------------------------------------ */

static Bulkhead__CtaskKey *key(struct grpc_translation *t, const char *container_id, const char *exec_id) {
	Bulkhead__CtaskKey *k = ARENA_NEW(t->arena, Bulkhead__CtaskKey, BULKHEAD__CTASK_KEY__INIT);
	if (k) {
		k->namespace_ = ctd_namespace(t);
		k->container_id = (char *)(uintptr_t)container_id;
		k->exec_id = (char *)(uintptr_t)exec_id;
	}
	return k;
}

/* --- life ------------------------------------------------------------------- */

/* It names a folder with criu's images, in one of the two ways that there are. */
static bool restores_folder(const T(CreateTaskRequest) * q, struct arena *a) {
	const Containerd__Runc__V1__Options *o =
	    ctd_any_open(q->options, &containerd__runc__v1__options__descriptor, a);
	for (size_t i = 0; q->checkpoint && i < q->checkpoint->n_annotations; i++)
		if (strcmp(q->checkpoint->annotations[i]->key, "RestoreFromPath") == 0)
			return true;
	return o && *o->criu_image_path;
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const T(CreateTaskRequest) *q = (const T(CreateTaskRequest) *)request;
	Bulkhead__CtaskCreateRequest *i = ctd_task_create(
	    t, key(t, q->container_id, ""), task_stdio(t->arena, q->stdin, q->stdout, q->stderr, q->terminal));
	if (!i || !(i->rootfs = ctd_mounts(t, q->rootfs, q->n_rootfs)))
		return grpc_no_memory(fault);
	if (restores_folder(q, t->arena))
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "task \"%.76s\": a checkpoint is restored from content, and from no folder",
				 q->container_id);
	if (q->checkpoint && !(i->checkpoint = ctd_descriptor(t, q->checkpoint)))
		return grpc_no_memory(fault);
	i->n_rootfs = q->n_rootfs;
	*ret_internal = &i->base;
	return 0;
}

static int create_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	T(CreateTaskResponse) *a = (T(CreateTaskResponse) *)*reply;
	a->container_id = t->state ? t->state : (char *)"";
	a->pid = ((const Bulkhead__CtaskPid *)internal)->pid;
	return 0;
}

static int start(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	const T(StartRequest) *q = (const T(StartRequest) *)request;
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

static int start_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		       struct fault *fault) {
	T(StartResponse) *a = (T(StartResponse) *)*reply;
	a->pid = ((const Bulkhead__CtaskPid *)internal)->pid;
	return 0;
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return task_key_request(key(t, ((const T(DeleteTaskRequest) *)request)->container_id, ""), ret_internal, fault);
}

static int drop_process(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	const T(DeleteProcessRequest) *q = (const T(DeleteProcessRequest) *)request;
	if (!*q->exec_id)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "delete a process of task \"%.76s\": its id is missing",
				 q->container_id);
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

static int drop_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__CtaskExit *e = (const Bulkhead__CtaskExit *)internal;
	T(DeleteResponse) *a = (T(DeleteResponse) *)*reply;
	a->id = e->key ? e->key->exec_id : (char *)"";
	a->pid = e->pid;
	a->exit_status = e->exit_status;
	a->exited_at = ctd_time(t, e->exited_at);
	return 0;
}

static int wait(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const T(WaitRequest) *q = (const T(WaitRequest) *)request;
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

static int wait_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__CtaskExit *e = (const Bulkhead__CtaskExit *)internal;
	T(WaitResponse) *a = (T(WaitResponse) *)*reply;
	a->exit_status = e->exit_status;
	a->exited_at = ctd_time(t, e->exited_at);
	return 0;
}

/* --- looking ---------------------------------------------------------------- */

static P(Process) * process(struct grpc_translation *t, const Bulkhead__CtaskProcess *from) {
	P(Process) *to = ARENA_NEW(t->arena, P(Process), P_INIT(PROCESS));
	if (!to || !from->key)
		return NULL;
	to->container_id = from->key->container_id;
	to->id = *from->key->exec_id ? from->key->exec_id : from->key->container_id;
	to->pid = from->pid;
	to->status = (P(Status))from->status; /* the same numbers */
	if (from->stdio) {
		to->stdin = from->stdio->stdin;
		to->stdout = from->stdio->stdout;
		to->stderr = from->stdio->stderr;
		to->terminal = from->stdio->terminal;
	}
	to->exit_status = from->exit_status;
	to->exited_at = ctd_time(t, from->exited_at);
	return to;
}

static int get(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	const T(GetRequest) *q = (const T(GetRequest) *)request;
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

static int get_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		     struct fault *fault) {
	T(GetResponse) *a = (T(GetResponse) *)*reply;
	if (!(a->process = process(t, (const Bulkhead__CtaskProcess *)internal)))
		return grpc_no_memory(fault);
	return 0;
}

/* The filter means nothing to containerd either. */
static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	Bulkhead__CtaskListRequest *q =
	    ARENA_NEW(t->arena, Bulkhead__CtaskListRequest, BULKHEAD__CTASK_LIST_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	q->namespace_ = ctd_namespace(t);
	*ret_internal = &q->base;
	return *q->namespace_ ? 0 : fault_set(fault, FAULT_INVALID_ARGUMENT, "a namespace is required");
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__CtaskList *l = (const Bulkhead__CtaskList *)internal;
	T(ListTasksResponse) *a = (T(ListTasksResponse) *)*reply;
	if (!(a->tasks = arena_alloc(t->arena, (l->n_tasks + 1) * sizeof(*a->tasks))))
		return grpc_no_memory(fault);
	for (; a->n_tasks < l->n_tasks; a->n_tasks++)
		if (!(a->tasks[a->n_tasks] = process(t, l->tasks[a->n_tasks])))
			return grpc_no_memory(fault);
	return 0;
}

static int pids(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	return task_key_request(key(t, ((const T(ListPidsRequest) *)request)->container_id, ""), ret_internal, fault);
}

/* Which exec a pid is of, in the form of runc's shim. */
static Google__Protobuf__Any *pid_details(struct grpc_translation *t, const char *exec_id) {
	Containerd__Runc__V1__ProcessDetails d = CONTAINERD__RUNC__V1__PROCESS_DETAILS__INIT;
	Google__Protobuf__Any *any = ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT);
	d.exec_id = (char *)(uintptr_t)exec_id;
	size_t size = protobuf_c_message_get_packed_size(&d.base);
	if (!any || !(any->value.data = arena_alloc(t->arena, size)))
		return NULL;
	any->type_url = (char *)"containerd.runc.v1.ProcessDetails";
	any->value.len = protobuf_c_message_pack(&d.base, any->value.data);
	return any;
}

static int pids_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Bulkhead__TaskPidsReply *l = (const Bulkhead__TaskPidsReply *)internal;
	T(ListPidsResponse) *a = (T(ListPidsResponse) *)*reply;
	if (!(a->processes = arena_alloc(t->arena, (l->n_pids + 1) * sizeof(*a->processes))))
		return grpc_no_memory(fault);
	for (; a->n_processes < l->n_pids; a->n_processes++) {
		const Bulkhead__TaskPidsReply__Pid *from = l->pids[a->n_processes];
		P(ProcessInfo) *to = ARENA_NEW(t->arena, P(ProcessInfo), P_INIT(PROCESS_INFO));
		if (!to || (*from->exec_id && !(to->info = pid_details(t, from->exec_id))))
			return grpc_no_memory(fault);
		to->pid = (uint32_t)from->pid;
		a->processes[a->n_processes] = to;
	}
	return 0;
}

/* --- processes -------------------------------------------------------------- */

static int kill(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const T(KillRequest) *q = (const T(KillRequest) *)request;
	return task_kill_request(t->arena, key(t, q->container_id, q->exec_id), q->signal, q->all, false, ret_internal,
				 fault);
}

static int exec(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const T(ExecProcessRequest) *q = (const T(ExecProcessRequest) *)request;
	return ctd_task_exec(t, key(t, q->container_id, q->exec_id),
			     task_stdio(t->arena, q->stdin, q->stdout, q->stderr, q->terminal), q->spec, ret_internal,
			     fault);
}

static int resize(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const T(ResizePtyRequest) *q = (const T(ResizePtyRequest) *)request;
	return task_resize_request(t->arena, key(t, q->container_id, q->exec_id), q->width, q->height, ret_internal,
				   fault);
}

static int close_io(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		    struct fault *fault) {
	const T(CloseIORequest) *q = (const T(CloseIORequest) *)request;
	if (!q->stdin)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "close streams of task \"%.76s\": only stdin can be closed", q->container_id);
	return task_key_request(key(t, q->container_id, q->exec_id), ret_internal, fault);
}

/* --- the whole container ---------------------------------------------------- */

static int pause(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	return task_freeze_request(t->arena, key(t, ((const T(PauseTaskRequest) *)request)->container_id, ""), true,
				   ret_internal, fault);
}

static int resume(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	return task_freeze_request(t->arena, key(t, ((const T(ResumeTaskRequest) *)request)->container_id, ""), false,
				   ret_internal, fault);
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const T(UpdateTaskRequest) *q = (const T(UpdateTaskRequest) *)request;
	Bulkhead__CtaskUpdateRequest *u =
	    ARENA_NEW(t->arena, Bulkhead__CtaskUpdateRequest, BULKHEAD__CTASK_UPDATE_REQUEST__INIT);
	if (!u || !(u->key = key(t, q->container_id, "")))
		return grpc_no_memory(fault);
	*ret_internal = &u->base;
	if (!q->resources)
		return 0; /* refused where it is looked at */
	int r = oci_json_resources(t->arena, q->resources->value.data, q->resources->value.len, &u->resources, fault);
	return r < 0 ? fault_prefix(fault, r, "update task \"%.76s\"", q->container_id) : 0;
}

/* --- checkpoints ------------------------------------------------------------ */

#define OPTIONS Containerd__Runc__V1__CheckpointOptions

/* What is done anyway, or doesn't matter, may be wanted: locks of files are kept,
 * and the control group is that of the new container. */
static const char *not_served(const OPTIONS *o) {
	return *o->image_path		  ? "a folder for the images"
	       : *o->work_path		  ? "a folder for the log"
	       : *o->parent_path	  ? "a parent"
	       : o->open_tcp		  ? "that connections are kept"
	       : o->external_unix_sockets ? "that sockets to others are kept"
	       : o->terminal		  ? "that a terminal is kept"
	       : o->n_empty_namespaces	  ? "an empty namespace"
					  : NULL;
}

static int checkpoint(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		      struct fault *fault) {
	const T(CheckpointTaskRequest) *q = (const T(CheckpointTaskRequest) *)request;
	const OPTIONS *o = ctd_any_open(q->options, &containerd__runc__v1__checkpoint_options__descriptor, t->arena);
	if (q->options && !o)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "checkpoint task \"%.76s\": the options are no containerd.runc.v1.CheckpointOptions",
				 q->container_id);
	const struct task_checkpoint wants = {
		.exit = o && o->exit,
		.config_type = (char *)"application/vnd.containerd.container.checkpoint.config.v1+proto",
		.lease = ctd_lease(t),
		.not_served = *q->parent_checkpoint ? "a parent"
			      : o		    ? not_served(o)
						    : NULL,
	};
	return task_checkpoint_request(t->arena, key(t, q->container_id, ""), &wants, ret_internal, fault);
}

static int checkpoint_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			    struct fault *fault) {
	const Bulkhead__CtaskCheckpoint *c = (const Bulkhead__CtaskCheckpoint *)internal;
	T(CheckpointTaskResponse) *a = (T(CheckpointTaskResponse) *)*reply;
	if (!(a->descriptors = arena_alloc(t->arena, 2 * sizeof(*a->descriptors))) ||
	    !(a->descriptors[0] = ctd_descriptor_back(t, c->images)) ||
	    !(a->descriptors[1] = ctd_descriptor_back(t, c->config)))
		return grpc_no_memory(fault);
	a->n_descriptors = 2;
	return 0;
}

static const struct grpc_translator on_create = { create, create_reply }, on_start = { start, start_reply },
				    on_delete = { drop, drop_reply }, on_delete_process = { drop_process, drop_reply },
				    on_get = { get, get_reply }, on_list = { list, list_reply },
				    on_kill = { .request = kill }, on_exec = { .request = exec },
				    on_resize = { .request = resize }, on_close_io = { .request = close_io },
				    on_pause = { .request = pause }, on_resume = { .request = resume },
				    on_pids = { pids, pids_reply }, on_update = { .request = update },
				    on_wait = { wait, wait_reply }, on_checkpoint = { checkpoint, checkpoint_reply };

const struct grpc_method ctd_tasks_methods[] = {
	{ .name = "Create", .number = MSG_ctask_create, .translator = &on_create, .changes = true },
	{ .name = "Start", .number = MSG_ctask_start, .translator = &on_start, .changes = true },
	{ .name = "Delete", .number = MSG_ctask_delete, .translator = &on_delete, .changes = true },
	{ .name = "DeleteProcess", .number = MSG_ctask_delete, .translator = &on_delete_process, .changes = true },
	{ .name = "Get", .number = MSG_ctask_get, .translator = &on_get },
	{ .name = "List", .number = MSG_ctask_list, .translator = &on_list },
	{ .name = "Kill", .number = MSG_ctask_kill, .translator = &on_kill, .changes = true },
	{ .name = "Exec", .number = MSG_ctask_exec, .translator = &on_exec, .changes = true },
	{ .name = "ResizePty", .number = MSG_ctask_resize, .translator = &on_resize },
	{ .name = "CloseIO", .number = MSG_ctask_close_stdin, .translator = &on_close_io },
	{ .name = "Pause", .number = MSG_ctask_freeze, .translator = &on_pause, .changes = true },
	{ .name = "Resume", .number = MSG_ctask_freeze, .translator = &on_resume, .changes = true },
	{ .name = "ListPids", .number = MSG_ctask_pids, .translator = &on_pids },
	{ .name = "Checkpoint", .number = MSG_ctask_checkpoint, .translator = &on_checkpoint, .changes = true },
	{ .name = "Update", .number = MSG_ctask_update, .translator = &on_update, .changes = true },
	{ .name = "Wait", .number = MSG_ctask_wait, .translator = &on_wait },
	{ .name = "Metrics", .number = MSG_ctask_metrics, .translator = &ctd_metrics },
	{ 0 },
};
