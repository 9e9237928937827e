/*
 * What streaming sessions and checkpoints need of a keeper: each call goes down as it is, and
 * its answer's descriptors come up as they are.
 *
 * Failure: a caller that gives up ends its call at the keeper, and with it the
 * command. A metadata worker that died hasn't given up: its successor asks
 * again for a command's end, so the call at the keeper goes on until then.
 */
#include "task.h"

#include "base/clock.h"
#include "msg/relay.h"

#define OPEN_LIMIT (120 * NS_PER_SEC)

/* To the keeper; what the row may be sent again for isn't ended by its caller's death. */
static struct msg_relay *relay_new(struct msg_request *r, size_t n_fds) {
	struct msg_relay *x = msg_relay_new(r, n_fds);
	if (x)
		x->outlives_caller = r->row->resend;
	return x;
}

void on_exec_open(struct task_worker *w, struct msg_request *r, const Bulkhead__ExecOpenRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	struct msg_relay *x = s ? relay_new(r, 3) : NULL;
	if (!x)
		return;
	struct msg_context context = context_within(&r->context, OPEN_LIMIT);
	x->call = keeper_exec_open_send(s->link, &context, m, NULL, 0, msg_relay_done, x);
}

void on_exec_wait(struct task_worker *w, struct msg_request *r, const Bulkhead__ExecWaitRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	struct msg_relay *x = s ? relay_new(r, 0) : NULL;
	if (x)
		x->call = keeper_exec_wait_send(s->link, &r->context, m, NULL, 0, msg_relay_done, x);
}

void on_attach_open(struct task_worker *w, struct msg_request *r, const Bulkhead__AttachOpenRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	struct msg_relay *x = s ? relay_new(r, 3) : NULL;
	if (!x)
		return;
	struct msg_context context = context_within(&r->context, OPEN_LIMIT);
	x->call = keeper_attach_send(s->link, &context, m, NULL, 0, msg_relay_done, x);
}

void on_process_streams(struct task_worker *w, struct msg_request *r, const Bulkhead__ProcessKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	struct msg_relay *x = s ? relay_new(r, 3) : NULL;
	if (!x)
		return;
	struct msg_context context = context_within(&r->context, OPEN_LIMIT);
	x->call = keeper_process_streams_send(s->link, &context, m, NULL, 0, msg_relay_done, x);
}

void on_checkpoint_begin(struct task_worker *w, struct msg_request *r, const Bulkhead__CheckpointRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	struct msg_relay *x = s ? relay_new(r, 4) : NULL;
	if (x)
		x->call = keeper_checkpoint_send(s->link, &r->context, m, NULL, 0, msg_relay_done, x);
}

void on_file_open(struct task_worker *w, struct msg_request *r, const Bulkhead__FileOpenRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, "*", false);
	struct msg_relay *x = s ? relay_new(r, 1) : NULL;
	if (!x)
		return;
	struct msg_context context = context_within(&r->context, OPEN_LIMIT);
	x->call = keeper_file_open_send(s->link, &context, m, NULL, 0, msg_relay_done, x);
}

void on_checkpoint_end(struct task_worker *w, struct msg_request *r, const Bulkhead__CheckpointEndRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	struct msg_relay *x = s ? relay_new(r, 0) : NULL;
	if (x)
		x->call = keeper_checkpoint_end_send(s->link, &r->context, m, NULL, 0, msg_relay_done, x);
}

void on_cut_begin(struct task_worker *w, struct msg_request *r, const Bulkhead__CutRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, "*", false);
	struct msg_relay *x = s ? relay_new(r, 0) : NULL;
	if (x)
		x->call = keeper_cut_send(s->link, &r->context, m, NULL, 0, msg_relay_done, x);
}

void on_cut_end(struct task_worker *w, struct msg_request *r, const Bulkhead__CutEndRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, "*", false);
	struct msg_relay *x = s ? relay_new(r, 0) : NULL;
	if (x)
		x->call = keeper_cut_end_send(s->link, &r->context, m, NULL, 0, msg_relay_done, x);
}

void on_port_open(struct task_worker *w, struct msg_request *r, const Bulkhead__PortOpenRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, "*", false);
	struct msg_relay *x = s ? relay_new(r, 1) : NULL;
	if (!x)
		return;
	struct msg_context context = context_within(&r->context, OPEN_LIMIT);
	x->call = keeper_port_send(s->link, &context, m, NULL, 0, msg_relay_done, x);
}
