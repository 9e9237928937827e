/*
 * What is done to containers: each call goes to the keeper of its sandbox.
 *
 * Owns: nothing; a request lives until its keeper answers, and its arena has
 * what the answer needs.
 * Invariant: a call reaches a keeper only when its sandbox runs; calls that
 * may be repeated also wait for a keeper that is being found again.
 * Failure: NOT_FOUND and FAILED_PRECONDITION name the sandbox, what the keeper
 * says goes on as it is.
 */
#include "task.h"

#include "base/clock.h"

#define KEEPER_MARGIN (10 * NS_PER_SEC)
#define STATS_LIMIT (15 * NS_PER_SEC)

struct sandbox *container_sandbox(struct task_worker *w, struct msg_request *r, const char *sandbox,
				  const char *container, bool wait) {
	struct sandbox *s = sandbox_find(w, sandbox);
	if (!s || s->state == SANDBOX_BROKEN) {
		msg_failf(r, FAULT_NOT_FOUND, "container \"%.80s\": pod sandbox \"%.80s\" isn't running", container,
			  sandbox);
		return NULL;
	}
	if (s->state == SANDBOX_RUNNING || (wait && s->state == SANDBOX_ORPHANED))
		return s;
	if (s->state == SANDBOX_ORPHANED)
		msg_failf(r, FAULT_UNAVAILABLE,
			  "container \"%.80s\": the keeper of pod sandbox \"%s\" is being replaced", container, s->id);
	else
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\": pod sandbox \"%s\" is being %s",
			  container, s->id, s->state == SANDBOX_STARTING ? "started" : "stopped");
	return NULL;
}

/* Time that the keeper was given, and a margin; 0 means "no limit of its own". */
static struct msg_context context_beyond(const struct msg_request *r, uint64_t own_ns) {
	int64_t most = own_ns > (uint64_t)INT64_MAX / 4 ? INT64_MAX / 4 : (int64_t)own_ns;
	return context_within(&r->context, most + KEEPER_MARGIN);
}

/* --- start --- */

static void start_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else if (!container_start_answer(a)->created)
		msg_failf(ctx, FAULT_INTERNAL, "the keeper's answer says nothing of the container");
	else
		task_start_reply(ctx, container_start_answer(a)->created, NULL, 0);
}

void on_task_start(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	container_start_send(s->link, &context, m, NULL, 0, start_done, r);
}

/* --- kill, stop, delete --- */

static void kill_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_kill_reply(ctx, container_kill_answer(a), NULL, 0);
}

void on_task_kill(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKillRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	container_kill_send(s->link, &context, m, NULL, 0, kill_done, r);
}

static void stop_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_stop_reply(ctx, container_stop_answer(a), NULL, 0);
}

void on_task_stop(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskStopRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_beyond(r, m->grace_ns);
	container_stop_send(s->link, &context, m, NULL, 0, stop_done, r);
}

static void delete_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_delete_reply(ctx, container_delete_answer(a), NULL, 0);
}

void on_task_delete(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	container_delete_send(s->link, &context, m, NULL, 0, delete_done, r);
}

/* --- exec --- */

struct exec {
	struct msg_request *request;
	struct msg_call *call;
};

static void exec_done(void *ctx, const struct msg_answer *a) {
	struct exec *x = ctx;
	x->request->cancelled = NULL;
	if (a->fault)
		msg_fail(x->request, a->fault);
	else
		exec_sync_reply(x->request, keeper_exec_answer(a), NULL, 0);
}

/* Nobody wants the output any more: the keeper ends what it started. */
static void exec_cancelled(struct msg_request *r, void *ctx) {
	struct exec *x = ctx;
	msg_cancel(x->call);
	msg_failf(r, FAULT_CANCELLED, "the caller has given up");
}

void on_exec_sync(struct task_worker *w, struct msg_request *r, const Bulkhead__ExecSyncRequest *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, false);
	if (!s)
		return;
	struct exec *x = arena_zalloc(&r->arena, sizeof(*x));
	if (!x) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "execute in container \"%.80s\": out of memory",
			  m->container_id);
		return;
	}
	Bulkhead__KeeperExecRequest k = BULKHEAD__KEEPER_EXEC_REQUEST__INIT;
	k.exec = (Bulkhead__ExecSyncRequest *)m;
	struct msg_context context = m->timeout_ns ? context_beyond(r, m->timeout_ns) : r->context;
	x->request = r;
	r->cancelled = exec_cancelled;
	r->cancelled_ctx = x;
	x->call = keeper_exec_send(s->link, &context, &k, NULL, 0, exec_done, x);
}

/* --- stats and logs --- */

static void stats_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_stats_reply(ctx, keeper_stats_answer(a), NULL, 0);
}

void on_task_stats(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskStatsRequest *m) {
	const char *first = m->n_container_ids ? m->container_ids[0] : "*";
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, first, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, STATS_LIMIT);
	keeper_stats_send(s->link, &context, m, NULL, 0, stats_done, r);
}

static void reopen_done(void *ctx, const struct msg_answer *a) {
	if (a->fault)
		msg_fail(ctx, a->fault);
	else
		task_reopen_log_reply(ctx, container_reopen_log_answer(a), NULL, 0);
}

void on_task_reopen_log(struct task_worker *w, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct sandbox *s = container_sandbox(w, r, m->sandbox_id, m->container_id, true);
	if (!s)
		return;
	struct msg_context context = context_within(&r->context, KEEPER_LIMIT);
	container_reopen_log_send(s->link, &context, m, NULL, 0, reopen_done, r);
}
