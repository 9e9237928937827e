/*
 * How containers end: signals, stop with a grace period, what happens when the
 * first process is gone, and delete.
 */
#include "workers/keeper/backend.h"
#include "workers/keeper/container.h"
#include "workers/keeper/exec.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/keeper/proc.h"
#include "workers/keeper/sys.h"

#include <stdio.h>
#include <string.h>

/* A stop or delete request that waits for the end. */
struct wait {
	struct list node;
	struct container *container;
	struct msg_request *request; /* NULL: the caller has given up */
	bool deletes;
	struct loop_source *timer; /* end of the grace period */
};

static void wait_free(struct wait *w) {
	list_unlink(&w->node);
	loop_source_free(w->timer);
	free(w);
}

static void wait_cancelled(struct msg_request *r, void *ctx) {
	struct wait *w = ctx;
	/* The grace period goes on: who stopped it wants it stopped. */
	w->request = NULL;
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

static struct wait *wait_new(struct container *c, struct msg_request *r, bool deletes) {
	struct wait *w = calloc(1, sizeof(*w));
	if (!w) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	w->container = c;
	w->request = r;
	w->deletes = deletes;
	list_append(&c->waits, &w->node);
	r->cancelled = wait_cancelled;
	r->cancelled_ctx = w;
	return w;
}

static void exit_reply(struct msg_request *r, const struct container *c) {
	Bulkhead__TaskExit exit;
	container_exit(c, &exit);
	r->cancelled = NULL;
	/* Both rows answer with the same message. */
	container_stop_reply(r, &exit, NULL, 0);
}

/* --- signals --- */

void container_signal(struct container *c, int sig) {
	if (c->pidfd >= 0 && c->state != CONTAINER_EXITED)
		backend_of(c->keeper)->signal(c->pidfd, sig);
}

/* In a virtual machine the group has those that stand for the guest's: SIGKILL
 * ends them, and the guest's with them, but what they pass on comes by their own
 * signal. What a process of the guest has made has nobody here. */
void container_signal_all(struct container *c, int sig) {
	if (sig == SIGKILL) {
		cgroup_kill(&c->cgroup);
		return;
	}
	if (!c->keeper->pod.vm) {
		cgroup_signal(&c->cgroup, sig);
		return;
	}
	container_signal(c, sig);
	list_for_each (n, &c->execs) {
		const struct exec *e = list_entry(n, struct exec, node);
		if (!e->over && e->pidfd >= 0)
			vm_backend.signal(e->pidfd, sig);
	}
}

void container_kill_now(struct container *c) {
	container_signal(c, SIGKILL);
	/* The first process of a pid namespace takes all others with it. */
	if (container_shares_pids(c) || c->state == CONTAINER_EXITED)
		cgroup_kill(&c->cgroup);
	container_thaw_to_die(c);
}

static int signal_meant(const struct container *c, const Bulkhead__TaskKillRequest *m) {
	bool kills = m->term_kills && m->signal == SIGTERM && c->state == CONTAINER_RUNNING &&
		     !proc_heeds(c->pid, SIGTERM);
	return kills ? SIGKILL : (int)m->signal;
}

void on_container_kill(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKillRequest *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	if (m->signal == 0 || m->signal >= (uint32_t)_NSIG) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%u is no signal", m->signal);
		return;
	}
	/* The same as of an added process: its end may not be known above yet. */
	if (c->state == CONTAINER_EXITED) {
		msg_failf(r, FAULT_NOT_FOUND, "process already finished: container \"%.80s\"", c->id);
		return;
	}
	if (c->state == CONTAINER_CREATING) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "container \"%.80s\" does not run", c->id);
		return;
	}
	int sig = signal_meant(c, m);
	if (m->all)
		container_signal_all(c, sig);
	else
		container_signal(c, sig);
	if (sig == SIGKILL)
		container_thaw_to_die(c);
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	container_kill_reply(r, &done, NULL, 0);
}

/* --- stop --- */

static void grace_over(void *ctx) {
	struct wait *w = ctx;
	loop_source_free_p(&w->timer);
	container_kill_now(w->container);
}

void on_container_stop(struct keeper *k, struct msg_request *r, const Bulkhead__TaskStopRequest *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c)
		return;
	if (c->state == CONTAINER_EXITED) {
		exit_reply(r, c);
		return;
	}
	uint32_t sig = m->signal ? m->signal : c->stop_signal ? c->stop_signal : SIGTERM;
	if (sig >= (uint32_t)_NSIG) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%u is no signal", sig);
		return;
	}
	struct wait *w = wait_new(c, r, false);
	if (!w)
		return;
	/* What has not executed yet can't handle a signal. */
	int64_t grace = (int64_t)MIN(m->grace_ns, (uint64_t)INT64_MAX / 4);
	if (grace == 0 || c->state != CONTAINER_RUNNING ||
	    loop_timer(k->loop, clock_mono() + grace, grace_over, w, &w->timer) < 0) {
		container_kill_now(c);
		return;
	}
	container_signal(c, (int)sig);
}

/* --- the end --- */

static void waits_answer(struct container *c) {
	struct keeper *k = c->keeper;
	bool deletes = false;
	list_for_each (n, &c->waits)
		deletes |= list_entry(n, struct wait, node)->deletes;
	/* Whoever is told that it's gone must not hear of it from a successor. */
	if (deletes) {
		list_unlink(&c->node);
		vault_put(k, VAULT_GONE, c->id, NULL);
		state_save(k);
	}
	list_for_each_safe (n, &c->waits) {
		struct wait *w = list_entry(n, struct wait, node);
		struct msg_request *r = w->request;
		wait_free(w);
		if (r)
			exit_reply(r, c);
	}
	if (deletes)
		container_free(c);
}

static void announce(struct container *c) {
	Bulkhead__TaskExit exit;
	container_exit(c, &exit);
	if (link_attached(c->keeper->link))
		process_exited_send(c->keeper->link, NULL, &exit, NULL, 0, NULL, NULL);
}

static void pending_fail(struct container *c, uint32_t code) {
	struct msg_request *r = take_ptr(c->pending);
	if (!r)
		return;
	r->cancelled = NULL;
	if (c->failed)
		msg_fail(r, c->failed);
	else if (code > 128)
		msg_failf(r, FAULT_ABORTED, "container \"%.80s\" was killed by signal %u before it ran", c->id,
			  code - 128);
	else
		msg_failf(r, FAULT_INTERNAL, "container \"%.80s\" ended with status %u before it ran", c->id, code);
}

/* A container that never came to be. */
static void creation_failed(struct container *c, uint32_t code) {
	struct keeper *k = c->keeper;
	pending_fail(c, code);
	list_for_each_safe (n, &c->waits) {
		struct wait *w = list_entry(n, struct wait, node);
		struct msg_request *r = w->request;
		wait_free(w);
		if (r)
			exit_reply(r, c);
	}
	vault_put(k, VAULT_GONE, c->id, NULL);
	backend_of(k)->ended(c);
	container_free(c);
	pod_teardown_continue(k);
}

/* Whoever reads them is told of the end, even if others still hold the pipes. */
static void streams_end(struct container *c) {
	if (!c->stdio || stdio_is_held(c->stdio))
		return;
	stdio_end(take_ptr(c->stdio));
	log_free(take_ptr(c->log));
	vault_renew(c->keeper);
}

/* Its processes are gone, unless it shared a pid namespace or somebody entered
 * its group in another one. */
static void group_end(struct container *c) {
	if (cgroup_remove(&c->cgroup) < 0) {
		struct cgroup rest = c->cgroup;
		keeper_bury(c->keeper, &rest);
	}
	c->cgroup.made = 0;
}

void container_ended(struct container *c, uint32_t code) {
	struct keeper *k = c->keeper;
	loop_source_free_p(&c->exit_source);
	c->finished_at = clock_real();
	c->exit_code = code;
	container_status_drain(c);
	restore_over(c);
	if (c->state == CONTAINER_CREATING) {
		creation_failed(c, code);
		return;
	}
	bool ran = c->state == CONTAINER_RUNNING;
	c->state = CONTAINER_EXITED;
	c->frozen = false;
	if (!ran)
		c->exit_code = PROCESS_FAILED;
	oom_watch_end(c);
	hold_end(c);
	log_drain(c->log);
	attach_end_all(c);
	backend_of(k)->ended(c);
	state_save(k);
	pending_fail(c, code);
	/* Who waits for the end needs nothing of what follows, and a successor
	 * that finds the end in our state does the rest of it. */
	announce(c);
	streams_end(c);
	group_end(c);
	if (!list_empty(&c->waits))
		waits_answer(c);
	pod_teardown_continue(k);
}

void on_container_delete(struct keeper *k, struct msg_request *r, const Bulkhead__TaskKey *m) {
	struct container *c = container_of_request(k, r, m->container_id);
	if (!c || !wait_new(c, r, true))
		return;
	if (c->state == CONTAINER_EXITED)
		waits_answer(c);
	else
		container_kill_now(c);
}
