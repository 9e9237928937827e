/* ExecSync and ReopenContainerLog: checked here, done by the task worker. */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "workers/metadata/lifecycle.h"

static int find_running(struct metadata *m, const char *id, struct container **ret, struct fault *fault) {
	int r = model_find_container(&m->model, id, ret, fault);
	if (r == 0 && (*ret)->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		r = fault_set(fault, FAULT_FAILED_PRECONDITION, "container \"%s\" isn't running", (*ret)->record->id);
	return r;
}

static void exec_done(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	if (answer->fault) {
		struct fault fault = *answer->fault;
		fault_prefix(&fault, 0, "execute in container");
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__ExecSyncReply *e = exec_sync_answer(answer);
	Runtime__V1__ExecSyncResponse a = RUNTIME__V1__EXEC_SYNC_RESPONSE__INIT;
	a.stdout = e->stdout_data;
	a.stderr = e->stderr_data;
	a.exit_code = e->exit_code;
	cri_exec_sync_reply(r, &a, NULL, 0);
}

void cri_exec_sync(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ExecSyncRequest *q = (const Runtime__V1__ExecSyncRequest *)request;
	struct container *c;
	struct fault fault;
	int e = find_running(m, q->container_id, &c, &fault);
	if (e == 0 && q->n_cmd == 0)
		e = fault_set(&fault, FAULT_INVALID_ARGUMENT, "the command is empty");
	if (e < 0) {
		fault_prefix(&fault, 0, "execute in container");
		msg_fail(r, &fault);
		return;
	}
	Bulkhead__ExecSyncRequest x = BULKHEAD__EXEC_SYNC_REQUEST__INIT;
	x.sandbox_id = c->record->sandbox_id;
	x.container_id = c->record->id;
	x.n_args = q->n_cmd;
	x.args = q->cmd;
	x.timeout_ns = q->timeout <= 0 ? 0 : (uint64_t)MIN(q->timeout, INT64_MAX / NS_PER_SEC) * NS_PER_SEC;
	exec_sync_send(m->task, &r->context, &x, NULL, 0, exec_done, r);
}

static void reopen_done(void *ctx, const struct msg_answer *answer) {
	struct msg_request *r = ctx;
	if (answer->fault) {
		struct fault fault = *answer->fault;
		fault_prefix(&fault, 0, "reopen the container's log");
		msg_fail(r, &fault);
		return;
	}
	Runtime__V1__ReopenContainerLogResponse a = RUNTIME__V1__REOPEN_CONTAINER_LOG_RESPONSE__INIT;
	cri_reopen_container_log_reply(r, &a, NULL, 0);
}

void cri_reopen_container_log(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ReopenContainerLogRequest *q = (const Runtime__V1__ReopenContainerLogRequest *)request;
	struct container *c;
	struct fault fault;
	if (find_running(m, q->container_id, &c, &fault) < 0) {
		fault_prefix(&fault, 0, "reopen the container's log");
		msg_fail(r, &fault);
		return;
	}
	Bulkhead__TaskKey k = BULKHEAD__TASK_KEY__INIT;
	k.sandbox_id = c->record->sandbox_id;
	k.container_id = c->record->id;
	task_reopen_log_send(m->task, &r->context, &k, NULL, 0, reopen_done, r);
}
