/*
 * sandbox_start: a folder, a keeper, and the keeper's own set-up of the pod.
 *
 * Happy path: folder -> {keeper_fork to the zygote, pod_setup and keeper_vault
 * into the new keeper's socket}, all at once -> reply. The keeper finds its
 * work in its socket when it is born, which saves round trips per pod; and when
 * the caller reads its answer the pod survives its keeper already. One that was
 * made ahead (ahead.h) needs no fork.
 * Invariant: each start that got as far as the folder ends as a running
 * sandbox or is undone by the same teardown that sandbox_stop uses; only then
 * is it answered. A caller who gave up changes nothing in this: it says
 * sandbox_stop when it doesn't want the pod.
 * Failure: the first fault is what the caller reads.
 */
#include "ahead.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "cni/cni.h"

#include <errno.h>

/* A CNI plugin may be slow; nothing else here is. */
#define SETUP_LIMIT (180 * NS_PER_SEC)

static void start_finish(struct sandbox *s) {
	struct msg_request *r = take_ptr(s->starter);
	s->start = NULL;
	s->state = SANDBOX_RUNNING;
	log_event(LOG_DEBUG, "pod sandbox runs", "pod", s->id, NULL);
	sandbox_start_reply(r, s->started, NULL, 0);
	if (!list_empty(&s->stops))
		sandbox_teardown(s);
}

void sandbox_step_done(struct sandbox *s) {
	if (--s->open_steps > 0)
		return;
	if (s->start_fault->code != FAULT_NONE)
		sandbox_undo(s);
	else
		start_finish(s);
}

/* The zygote's word is better than what the socket says when it never got a
 * keeper. */
static void fork_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	if (a->fault) {
		*s->start_fault = *a->fault;
		/* These two don't say whether one was forked. */
		s->keeperless = a->fault->code != FAULT_UNAVAILABLE && a->fault->code != FAULT_DEADLINE_EXCEEDED;
	}
	sandbox_step_done(s);
}

static void setup_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	if (!a->fault && pod_setup_answer(a)->started)
		sandbox_remember(s, pod_setup_answer(a)->started);
	if (s->start_fault->code == FAULT_NONE) {
		if (a->fault)
			*s->start_fault = *a->fault;
		else if (!s->started)
			fault_set(s->start_fault, FAULT_INTERNAL, "the keeper's answer says nothing of the pod");
	}
	sandbox_step_done(s);
}

static int start_check(struct task_worker *w, const Bulkhead__SandboxStartRequest *m, struct fault *fault) {
	if (!id_valid(m->id))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id of a pod sandbox", m->id);
	struct sandbox *s = sandbox_find(w, m->id);
	/* One whose set-up was left halfway can only be stopped. */
	if (!s || (s->state == SANDBOX_RUNNING && s->started))
		return 0;
	return fault_set(fault, FAULT_ABORTED, "pod sandbox \"%s\" is being %s", m->id,
			 s->state == SANDBOX_STARTING ? "started" : "stopped or recovered");
}

/* The pod's keeper: steps of its making are counted. */
static int keeper_get(struct sandbox *s, const struct msg_context *context, struct fault *fault) {
	bool fits = ahead_fits(s->start);
	int fd = fits ? ahead_take(s->worker) : -1;
	if (fits)
		ahead_make(s->worker);
	if (fd >= 0) {
		int r = link_attach_socket(s->link, fd);
		return r < 0 ? fault_errno(fault, r, "take up a keeper's socket") : 0;
	}
	s->open_steps++;
	return keeper_spawn(s, s->link, context, fork_done, fault);
}

static int start_begin(struct sandbox *s, struct fault *fault) {
	struct msg_request *r = s->starter;
	struct msg_context context = context_within(&r->context, SETUP_LIMIT);
	Bulkhead__NetworkPlan *plan = NULL;
	int e = 0;
	s->keeperless = true;
	if (!link_attached(s->worker->zygote))
		return fault_set(fault, FAULT_UNAVAILABLE,
				 "the keepers' zygote isn't running at this moment, try again");
	if (s->start->network != BULKHEAD__NAMESPACE_MODE__NODE && !s->start->bare)
		e = cni_plan(s->worker->cni, s->start, &r->arena, &plan, fault);
	if (e < 0)
		return e;
	const char *run_dir = arena_printf(&r->arena, "%s/%s", s->worker->pods_path, s->id);
	if (!run_dir)
		return fault_errno(fault, ENOMEM, "start pod sandbox \"%s\"", s->id);
	e = rundir_make(s->worker, s->id, fault);
	if (e < 0)
		return e;
	s->open_steps = 2;
	e = keeper_get(s, &context, fault);
	if (e < 0)
		return e;
	s->keeperless = false;
	Bulkhead__PodSetupRequest setup = BULKHEAD__POD_SETUP_REQUEST__INIT;
	setup.sandbox = (Bulkhead__SandboxStartRequest *)s->start;
	setup.network = plan;
	setup.run_dir = (char *)run_dir;
	pod_setup_send(s->link, &context, &setup, NULL, 0, setup_done, s);
	keeper_ask_vault(s);
	return 0;
}

void on_sandbox_start(struct task_worker *w, struct msg_request *r, const Bulkhead__SandboxStartRequest *m) {
	struct fault fault = { 0 };
	if (start_check(w, m, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	struct sandbox *s = sandbox_find(w, m->id);
	if (s) { /* asked again after an answer that got lost */
		sandbox_start_reply(r, s->started, NULL, 0);
		return;
	}
	struct fault *first = arena_zalloc(&r->arena, sizeof(*first));
	if (!first || sandbox_new(w, m->id, SANDBOX_STARTING, &s) < 0) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "start pod sandbox \"%s\": out of memory", m->id);
		return;
	}
	s->starter = r;
	s->start = m;
	s->start_fault = first;
	if (start_begin(s, first) < 0)
		sandbox_undo(s);
}
