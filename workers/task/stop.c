/*
 * sandbox_stop, and the undoing of a start that failed: one teardown.
 *
 * Happy path: pod_teardown to the keeper -> its folder is removed -> the
 * sandbox leaves the table -> all who asked are answered.
 * pod_teardown may be repeated, so it waits in the sandbox's link when the
 * keeper dies over it; what this file adds is to get a new keeper, which
 * finds in the folder what its predecessor had made.
 * Failure: after a few keepers, or at the limit of time, the sandbox is
 * SANDBOX_BROKEN: still in the table and on disk, and the next sandbox_stop
 * tries again.
 */
#include "stop.h"

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"

#include <errno.h>

#define TEARDOWN_LIMIT (90 * NS_PER_SEC)

struct stop_waiter {
	struct list node; /* in sandbox->stops */
	struct msg_request *request;
	const Bulkhead__SandboxStopRequest *message;
};

/* Answers everybody; fault NULL is success. */
static void stop_answer(struct sandbox *s, const struct fault *fault) {
	struct msg_request *starter = take_ptr(s->starter);
	if (starter) {
		s->start = NULL;
		msg_fail(starter, take_ptr(s->start_fault));
	}
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	for (struct list *n; (n = list_pop(&s->stops));) {
		struct msg_request *r = list_entry(n, struct stop_waiter, node)->request;
		if (fault)
			msg_fail(r, fault);
		else
			sandbox_stop_reply(r, &empty, NULL, 0);
	}
}

static void teardown_failed(struct sandbox *s, const struct fault *fault) {
	struct fault named = *fault;
	fault_prefix(&named, -EIO, "stop pod sandbox \"%s\"", s->id);
	log_event(LOG_WARN, "pod sandbox is left behind, a later stop tries again", "pod", s->id, "why", named.text,
		  NULL);
	s->state = SANDBOX_BROKEN;
	stop_answer(s, &named);
}

static void teardown_finish(struct sandbox *s) {
	struct fault fault = { 0 };
	if (rundir_remove(s->worker, s->id, &fault) < 0) {
		teardown_failed(s, &fault);
		return;
	}
	log_event(LOG_DEBUG, "pod sandbox is gone", "pod", s->id, NULL);
	sandbox_free(s);
	stop_answer(s, NULL);
}

static void teardown_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	s->teardown = NULL;
	if (a->fault)
		teardown_failed(s, a->fault);
	else
		teardown_finish(s);
}

static void teardown_give_up(struct sandbox *s, const struct fault *fault) {
	msg_cancel(take_ptr(s->teardown));
	teardown_failed(s, fault);
}

static void spawned(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	/* UNAVAILABLE: the zygote is being replaced, and that is worth a wait. */
	if (a->fault && a->fault->code != FAULT_UNAVAILABLE && s->state == SANDBOX_STOPPING && s->teardown)
		teardown_give_up(s, a->fault);
}

void teardown_keeper_lost(struct sandbox *s) {
	struct fault fault = { 0 };
	if (!s->teardown || link_attached(s->link))
		return;
	int fd = -1;
	if (s->attempts == 0 && rundir_connect(s->worker, s->id, &fd) == 0) {
		s->attempts++;
		if (link_attach_socket(s->link, fd) == 0)
			return;
	}
	/* keeper_revive_all calls again when the zygote is back. */
	if (!link_attached(s->worker->zygote))
		return;
	if (s->attempts++ >= KEEPER_ATTEMPTS_MAX) {
		fault_set(&fault, FAULT_INTERNAL, "its keepers end before they finish; see the log");
		teardown_give_up(s, &fault);
		return;
	}
	struct msg_context context = { .deadline = clock_mono() + TEARDOWN_LIMIT };
	if (keeper_spawn(s, s->link, &context, spawned, &fault) < 0)
		teardown_give_up(s, &fault);
}

void sandbox_teardown(struct sandbox *s) {
	Bulkhead__SandboxStopRequest bare = BULKHEAD__SANDBOX_STOP_REQUEST__INIT;
	bare.id = s->id;
	const Bulkhead__SandboxStopRequest *m = &bare;
	if (!list_empty(&s->stops))
		m = list_entry(s->stops.next, struct stop_waiter, node)->message;
	/* Not the caller's deadline: once begun it is finished. */
	struct msg_context context = { .deadline = clock_mono() + TEARDOWN_LIMIT };
	if (s->starter)
		context.request = s->starter->context.request;
	s->state = SANDBOX_STOPPING;
	s->attempts = 0;
	keeper_stop_reviving(s);
	s->teardown = pod_teardown_send(s->link, &context, m, NULL, 0, teardown_done, s);
	teardown_keeper_lost(s);
}

void sandbox_undo(struct sandbox *s) {
	if (s->keeperless)
		teardown_finish(s);
	else
		sandbox_teardown(s);
}

/* A folder that nobody speaks for is taken down like any sandbox. */
static struct sandbox *stop_target(struct task_worker *w, const char *id, int *ret_error) {
	struct sandbox *s = sandbox_find(w, id);
	*ret_error = 0;
	if (!s && rundir_exists(w, id))
		*ret_error = sandbox_new(w, id, SANDBOX_BROKEN, &s);
	return s;
}

void on_sandbox_stop(struct task_worker *w, struct msg_request *r, const Bulkhead__SandboxStopRequest *m) {
	if (!id_valid(m->id)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.80s\" is no id of a pod sandbox", m->id);
		return;
	}
	int error;
	struct sandbox *s = stop_target(w, m->id, &error);
	struct stop_waiter *waiter = s ? arena_zalloc(&r->arena, sizeof(*waiter)) : NULL;
	if (!s && error == 0) {
		Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
		sandbox_stop_reply(r, &empty, NULL, 0);
		return;
	}
	if (!waiter) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "stop pod sandbox \"%s\": out of memory", m->id);
		return;
	}
	waiter->request = r;
	waiter->message = m;
	list_append(&s->stops, &waiter->node);
	if (s->state == SANDBOX_RUNNING || s->state == SANDBOX_ORPHANED || s->state == SANDBOX_BROKEN)
		sandbox_teardown(s);
}
