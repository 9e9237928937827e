/*
 * Processes beside a container's first, and what containerd's API does to a
 * container besides: each call goes to the keeper as it is, and its answer back.
 *
 * Failure: a caller that gives up leaves a process that was started running;
 * task_list tells of it, and process_kill and process_delete end it.
 */
#include "task.h"

#include "base/clock.h"

static void passed(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		msg_reply(ctx, a->reply, NULL, 0, false);
}

void on_process_start(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessStartRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	keeper_process_start_send(s->link, &context, m, NULL, 0, passed, r);
}

void on_process_kill(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKillRequest *m) {
	if (!m->process) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "no process is named");
		return;
	}
	struct sandbox *s = container_sandbox(w, r, m->process->sandbox_id, m->process->container_id, false);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	keeper_process_kill_send(s->link, &context, m, NULL, 0, passed, r);
}

void on_process_delete(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	keeper_process_delete_send(s->link, &context, m, NULL, 0, passed, r);
}

void on_process_resize(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessResizeRequest *m) {
	if (!m->process) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "no process is named");
		return;
	}
	struct sandbox *s = container_sandbox(w, r, m->process->sandbox_id, m->process->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	keeper_process_resize_send(s->link, &context, m, NULL, 0, passed, r);
}

void on_process_close_stdin(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	keeper_process_close_stdin_send(s->link, &context, m, NULL, 0, passed, r);
}

void on_task_freeze(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskFreezeRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	container_freeze_send(s->link, &context, m, NULL, 0, passed, r);
}

void on_task_pids(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	container_pids_send(s->link, &context, m, NULL, 0, passed, r);
}
