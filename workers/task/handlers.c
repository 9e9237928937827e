/* What the metadata worker may ask of this one: from message to function. */
#include "task.h"

static void on_sandbox_start(struct task_worker *w, struct msg_request *r, const Bulkhead__SandboxStartRequest *m) {
	task_sandbox_start(w, r, m);
}
static void on_sandbox_stop(struct task_worker *w, struct msg_request *r, const Bulkhead__SandboxStopRequest *m) {
	task_sandbox_stop(w, r, m);
}
static void on_task_create(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskCreateRequest *m) {
	task_container_create(w, r, m);
}
static void on_task_start(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	task_container_start(w, r, m);
}
static void on_task_kill(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKillRequest *m) {
	task_container_kill(w, r, m);
}
static void on_task_stop(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskStopRequest *m) {
	task_container_stop(w, r, m);
}
static void on_task_delete(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	task_container_delete(w, r, m);
}
static void on_exec_sync(struct task_worker *w, struct msg_request *r, const Bulkhead__ExecSyncRequest *m) {
	task_container_exec(w, r, m);
}
static void on_task_stats(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskStatsRequest *m) {
	task_container_stats(w, r, m);
}
static void on_task_update(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskUpdateRequest *m) {
	task_container_update(w, r, m);
}
static void on_task_list(struct task_worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	task_sandbox_list(w, r);
}
static void on_task_reopen_log(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	task_container_reopen_log(w, r, m);
}
static void on_runtime_info(struct task_worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	task_runtime_info(w, r);
}

static void on_exec_open(struct task_worker *w, struct msg_request *r, const Bulkhead__ExecOpenRequest *m) {
	task_exec_open(w, r, m);
}
static void on_exec_wait(struct task_worker *w, struct msg_request *r, const Bulkhead__ExecWaitRequest *m) {
	task_exec_wait(w, r, m);
}
static void on_attach_open(struct task_worker *w, struct msg_request *r, const Bulkhead__AttachOpenRequest *m) {
	task_attach_open(w, r, m);
}
static void on_port_open(struct task_worker *w, struct msg_request *r, const Bulkhead__PortOpenRequest *m) {
	task_port_open(w, r, m);
}
static void on_checkpoint_begin(struct task_worker *w, struct msg_request *r, const Bulkhead__CheckpointRequest *m) {
	task_checkpoint_begin(w, r, m);
}
static void on_file_open(struct task_worker *w, struct msg_request *r, const Bulkhead__FileOpenRequest *m) {
	task_file_open(w, r, m);
}
static void on_checkpoint_end(struct task_worker *w, struct msg_request *r, const Bulkhead__CheckpointEndRequest *m) {
	task_checkpoint_end(w, r, m);
}

static void on_task_userns(struct task_worker *w, struct msg_request *r, const Bulkhead__Key *m) {
	task_sandbox_userns(w, r, m);
}

static void on_task_create_bare(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskCreateRequest *m) {
	task_container_create(w, r, m);
}
static void on_process_start(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessStartRequest *m) {
	task_process_start(w, r, m);
}
static void on_process_kill(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKillRequest *m) {
	task_process_kill(w, r, m);
}
static void on_process_delete(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	task_process_delete(w, r, m);
}
static void on_process_resize(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessResizeRequest *m) {
	task_process_resize(w, r, m);
}
static void on_process_close_stdin(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	task_process_close_stdin(w, r, m);
}
static void on_task_freeze(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskFreezeRequest *m) {
	task_container_freeze(w, r, m);
}
static void on_task_pids(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	task_container_pids(w, r, m);
}

HANDLER_DEFINE(struct task_worker, sandbox_start)
HANDLER_DEFINE(struct task_worker, sandbox_stop)
HANDLER_DEFINE(struct task_worker, task_create)
HANDLER_DEFINE(struct task_worker, task_start)
HANDLER_DEFINE(struct task_worker, task_kill)
HANDLER_DEFINE(struct task_worker, task_stop)
HANDLER_DEFINE(struct task_worker, task_delete)
HANDLER_DEFINE(struct task_worker, exec_sync)
HANDLER_DEFINE(struct task_worker, task_stats)
HANDLER_DEFINE(struct task_worker, task_update)
HANDLER_DEFINE(struct task_worker, task_list)
HANDLER_DEFINE(struct task_worker, task_reopen_log)
HANDLER_DEFINE(struct task_worker, runtime_info)
HANDLER_DEFINE(struct task_worker, task_userns)
HANDLER_DEFINE(struct task_worker, exec_open)
HANDLER_DEFINE(struct task_worker, exec_wait)
HANDLER_DEFINE(struct task_worker, attach_open)
HANDLER_DEFINE(struct task_worker, port_open)
HANDLER_DEFINE(struct task_worker, task_create_bare)
HANDLER_DEFINE(struct task_worker, process_start)
HANDLER_DEFINE(struct task_worker, process_kill)
HANDLER_DEFINE(struct task_worker, process_delete)
HANDLER_DEFINE(struct task_worker, process_resize)
HANDLER_DEFINE(struct task_worker, process_close_stdin)
HANDLER_DEFINE(struct task_worker, task_freeze)
HANDLER_DEFINE(struct task_worker, task_pids)
HANDLER_DEFINE(struct task_worker, checkpoint_begin)
HANDLER_DEFINE(struct task_worker, checkpoint_end)
HANDLER_DEFINE(struct task_worker, file_open)

const struct link_handler task_handlers[] = {
	HANDLER(sandbox_start),	   HANDLER(sandbox_stop),   HANDLER(task_create),
	HANDLER(task_start),	   HANDLER(task_kill),	    HANDLER(task_stop),
	HANDLER(task_delete),	   HANDLER(exec_sync),	    HANDLER(task_stats),
	HANDLER(task_update),	   HANDLER(task_list),	    HANDLER(task_reopen_log),
	HANDLER(runtime_info),	   HANDLER(exec_open),	    HANDLER(exec_wait),
	HANDLER(attach_open),	   HANDLER(port_open),	    HANDLER(task_userns),
	HANDLER(task_create_bare), HANDLER(process_start),  HANDLER(process_kill),
	HANDLER(process_delete),   HANDLER(process_resize), HANDLER(process_close_stdin),
	HANDLER(task_freeze),	   HANDLER(task_pids),	    HANDLER(checkpoint_begin),
	HANDLER(checkpoint_end),   HANDLER(file_open),	    { 0 },
};
