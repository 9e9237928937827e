/*
 * The link to a pod's keeper: how it is made, lost and found again.
 *
 * Owns: nothing but the moves; links, vault and state are the sandbox's.
 *
 *   spawn   a socket pair, one end to the zygote, the other into a link
 *   vault   what a running keeper holds (pipes, namespaces, pidfds) is also
 *           in one descriptor that we keep unread
 *   down    running -> orphaned: revive; stopping: the teardown needs another
 *           keeper; starting: the open steps have failed and undo it
 *   revive  connect to keeper.sock in the pod's folder and ask for the state;
 *           when nobody listens the keeper is dead, and a successor gets the
 *           vault by keeper_adopt, listens there and is connected to
 *
 * A successor adopts over a link of its own, the cradle: the sandbox's link
 * has calls waiting that it must not see before it has adopted.
 * Failure: a sandbox that can't be revived stays orphaned and is tried again,
 * with a growing pause, until sandbox_stop ends it. Its containers run on.
 */
#include "stop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define FORK_LIMIT (20 * NS_PER_SEC)
#define STATE_LIMIT (10 * NS_PER_SEC)
#define VAULT_LIMIT (180 * NS_PER_SEC)
#define ADOPT_LIMIT (60 * NS_PER_SEC)
#define RETRY_PAUSE (2 * NS_PER_MS)
#define RETRY_PAUSE_MAX (30 * NS_PER_SEC)

int keeper_socket(int *ret_ours, int *ret_theirs) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	*ret_ours = pair[0];
	*ret_theirs = pair[1];
	return 0;
}

int keeper_spawn(struct sandbox *s, struct link *l, const struct msg_context *context, msg_done_fn done,
		 struct fault *fault) {
	CLEANUP_FD int theirs = -1;
	int ours = -1, r = keeper_socket(&ours, &theirs);
	if (r < 0)
		return fault_errno(fault, r, "make a keeper's socket");
	r = link_attach_socket(l, ours);
	if (r < 0)
		return fault_errno(fault, r, "take up a keeper's socket");
	char run_dir[PATH_MAX];
	snprintf(run_dir, sizeof(run_dir), "%s/%s", s->worker->pods_path, s->id);
	struct msg_context c = context_within(context, FORK_LIMIT);
	Bulkhead__KeeperForkRequest m = BULKHEAD__KEEPER_FORK_REQUEST__INIT;
	m.sandbox_id = s->id;
	m.run_dir = run_dir;
	keeper_fork_send(s->worker->zygote, &c, &m, &theirs, 1, done, s);
	return 0;
}

/* --- the vault --- */

static void vault_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	s->vaulting = NULL;
	if (a->fault)
		log_event(LOG_WARN,
			  "a keeper's descriptors aren't kept: should it be killed, its containers' output is lost",
			  "pod", s->id, "why", a->fault->text, NULL);
	else
		fd_replace(&s->vault, take_fd(&a->fds[0]));
	if (s->state == SANDBOX_STARTING)
		sandbox_step_done(s);
}

void keeper_ask_vault(struct sandbox *s) {
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	/* Behind a set-up it may wait for slow plug-ins. */
	struct msg_context context = { .deadline = clock_mono() + VAULT_LIMIT };
	msg_cancel(take_ptr(s->vaulting));
	s->vaulting = keeper_vault_send(s->link, &context, &m, NULL, 0, vault_done, s);
}

/* --- revival --- */

static void retry_fired(void *ctx) {
	struct task_worker *w = ctx;
	loop_source_free_p(&w->retry);
	keeper_revive_all(w);
}

static void retry_later(struct task_worker *w) {
	if (w->retry)
		return;
	w->retry_pause = w->retry_pause ? MIN(w->retry_pause * 2, RETRY_PAUSE_MAX) : RETRY_PAUSE;
	if (loop_timer(w->loop, clock_mono() + w->retry_pause, retry_fired, w, &w->retry) < 0)
		log_text(LOG_WARN, "out of memory: orphaned pods wait for the keepers' zygote");
}

static void revive_failed(struct sandbox *s, const char *what, const struct fault *fault) {
	if (s->state != SANDBOX_ORPHANED)
		return;
	log_event(LOG_WARN, what, "pod", s->id, "why", fault->text, NULL);
	retry_later(s->worker);
}

/* A metadata worker that is away asks for task_list when it is back; the
 * keeper remembers each exit until the container is deleted. */
static void tell_end(struct sandbox *s, const Bulkhead__TaskExit *end) {
	struct link *metadata = s->worker->metadata;
	if (metadata && link_attached(metadata))
		task_exited_send(metadata, NULL, end, NULL, 0, NULL, NULL);
}

static void tell_oom(struct sandbox *s, const Bulkhead__TaskOom *oom) {
	struct link *metadata = s->worker->metadata;
	if (metadata && link_attached(metadata))
		task_oom_send(metadata, NULL, oom, NULL, 0, NULL, NULL);
}

/* The ends tell it, too. */
static void tell_ooms(struct sandbox *s, const Bulkhead__SandboxInfo *info) {
	for (size_t i = 0; i < info->n_tasks; i++) {
		const Bulkhead__TaskInfo *t = info->tasks[i];
		Bulkhead__TaskOom oom = BULKHEAD__TASK_OOM__INIT;
		oom.sandbox_id = s->id;
		oom.container_id = t->container_id;
		oom.ooms = t->ooms;
		if (t->ooms > 0 && t->state != BULKHEAD__TASK_STATE__TASK_EXITED)
			tell_oom(s, &oom);
	}
}

/* Ends that nobody has heard of, perhaps; hearing them twice does no harm. */
static void tell_exec_ends(struct sandbox *s, const Bulkhead__TaskInfo *task) {
	for (size_t i = 0; i < task->n_execs; i++)
		if (task->execs[i]->exit)
			tell_end(s, task->execs[i]->exit);
}

static void tell_ends(struct sandbox *s, const Bulkhead__SandboxInfo *info) {
	for (size_t i = 0; i < info->n_tasks; i++)
		tell_exec_ends(s, info->tasks[i]);
	for (size_t i = 0; i < info->n_tasks; i++)
		if (info->tasks[i]->state == BULKHEAD__TASK_STATE__TASK_EXITED && info->tasks[i]->exit)
			tell_end(s, info->tasks[i]->exit);
}

static void tell_kept(struct sandbox *s) {
	struct link *metadata = s->worker->metadata;
	Bulkhead__SandboxKept m = BULKHEAD__SANDBOX_KEPT__INIT;
	m.sandbox_id = s->id;
	m.keeper_pid = s->keeper_pid;
	if (metadata && link_attached(metadata))
		sandbox_kept_send(metadata, NULL, &m, NULL, 0, NULL, NULL);
}

static void state_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	s->asking = NULL;
	if (a->fault) {
		revive_failed(s, "a keeper doesn't tell its state", a->fault);
		return;
	}
	if (s->state != SANDBOX_ORPHANED)
		return;
	const Bulkhead__SandboxInfo *info = keeper_state_answer(a)->info;
	if (info && info->started)
		sandbox_remember(s, info->started);
	s->state = SANDBOX_RUNNING;
	s->worker->retry_pause = 0;
	log_event(LOG_INFO, "keeper found", "pod", s->id, NULL);
	keeper_ask_vault(s);
	tell_kept(s);
	if (info) {
		tell_ooms(s, info);
		tell_ends(s, info);
	}
}

static void ask_state(struct sandbox *s) {
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	struct msg_context context = { .deadline = clock_mono() + STATE_LIMIT };
	s->asking = keeper_state_send(s->link, &context, &m, NULL, 0, state_done, s);
}

static int connect_keeper(struct sandbox *s) {
	int fd = -1;
	int r = rundir_connect(s->worker, s->id, &fd);
	return r < 0 ? r : link_attach_socket(s->link, fd);
}

void keeper_stop_reviving(struct sandbox *s) {
	msg_cancel(take_ptr(s->asking));
	link_free(take_ptr(s->cradle));
}

/* Nothing is left to adopt: whoever waits for the pod hears it now. */
static void give_up(struct sandbox *s, const struct fault *fault) {
	log_event(LOG_ERROR, "a pod is lost with its keeper", "pod", s->id, "why", fault->text, NULL);
	s->state = SANDBOX_BROKEN;
	if (sandbox_link_renew(s) < 0)
		log_text(LOG_WARN, "out of memory: calls to a lost pod end at their deadlines");
}

static void adopt_failed(struct sandbox *s, const struct fault *fault) {
	if (fault->code == FAULT_DATA_LOSS && s->state == SANDBOX_ORPHANED)
		give_up(s, fault);
	else
		revive_failed(s, "a keeper's successor can't adopt its pod", fault);
}

static void adopt_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	struct fault fault = { 0 };
	s->adopting = false;
	if (a->fault)
		adopt_failed(s, a->fault);
	if (a->fault || s->state != SANDBOX_ORPHANED)
		return;
	int r = connect_keeper(s);
	if (r >= 0) {
		ask_state(s);
	} else {
		fault_errno(&fault, r, "connect to \"%s/%s/keeper.sock\"", s->worker->pods_path, s->id);
		revive_failed(s, "a keeper's successor can't be reached", &fault);
	}
	link_free(take_ptr(s->cradle));
}

static void adopt_forked(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	if (a->fault && s->state == SANDBOX_ORPHANED)
		log_event(LOG_WARN, "no successor for a dead keeper", "pod", s->id, "why", a->fault->text, NULL);
}

/* What stands for a vault that was lost. */
static int empty_vault(void) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	fd_close(pair[1]);
	return pair[0];
}

static int adopt_send(struct sandbox *s, struct fault *fault) {
	struct msg_context context = { .deadline = clock_mono() + ADOPT_LIMIT };
	if (s->vault < 0)
		s->vault = empty_vault();
	if (s->vault < 0)
		return fault_errno(fault, errno, "make a vault");
	int r = keeper_spawn(s, s->cradle, &context, adopt_forked, fault);
	if (r < 0)
		return r;
	char run_dir[PATH_MAX];
	snprintf(run_dir, sizeof(run_dir), "%s/%s", s->worker->pods_path, s->id);
	Bulkhead__KeeperAdoptRequest m = BULKHEAD__KEEPER_ADOPT_REQUEST__INIT;
	m.sandbox_id = s->id;
	m.run_dir = run_dir;
	s->adopting = true;
	keeper_adopt_send(s->cradle, &context, &m, &s->vault, 1, adopt_done, s);
	return 0;
}

static void adopt(struct sandbox *s) {
	struct link_options options = {
		.loop = s->worker->loop,
		.self = ROLE_TASK,
		.peer = ROLE_KEEPER,
		.handlers = keeper_handlers,
		.worker = s,
	};
	struct fault fault = { 0 };
	link_free(take_ptr(s->cradle));
	int r = link_new(&options, &s->cradle);
	if (r < 0)
		fault_errno(&fault, r, "make a link");
	if (r < 0 || adopt_send(s, &fault) < 0)
		revive_failed(s, "no successor for a dead keeper", &fault);
}

void keeper_revive(struct sandbox *s) {
	if (s->asking || s->adopting)
		return;
	int r = link_attached(s->link) ? 0 : connect_keeper(s);
	if (r >= 0) {
		ask_state(s);
		return;
	}
	if (r != -ECONNREFUSED && r != -ENOENT) {
		struct fault fault = { 0 };
		fault_errno(&fault, r, "connect to \"%s/%s/keeper.sock\"", s->worker->pods_path, s->id);
		revive_failed(s, "a keeper can't be reached", &fault);
	} else if (link_attached(s->worker->zygote)) {
		adopt(s);
	} /* else keeper_revive_all comes with the zygote */
}

void keeper_revive_all(struct task_worker *w) {
	size_t pos;
	for (struct map_node *n = map_first(&w->sandboxes, &pos); n; n = map_next(&w->sandboxes, &pos, n)) {
		struct sandbox *s = container_of(n, struct sandbox, node);
		if (s->state == SANDBOX_ORPHANED)
			keeper_revive(s);
		else if (s->state == SANDBOX_STOPPING)
			teardown_keeper_lost(s);
	}
}

void keeper_down(void *sandbox, struct link *l, bool violation, const char *text) {
	struct sandbox *s = sandbox;
	if (s->state != SANDBOX_GONE)
		log_event(violation ? LOG_ERROR : LOG_WARN, "keeper's link is down", "pod", s->id, "why", text, NULL);
	msg_cancel(take_ptr(s->asking));
	if (s->state == SANDBOX_STARTING && s->vaulting) {
		/* The other steps' calls fail; this one would wait for a successor. */
		msg_cancel(take_ptr(s->vaulting));
		if (s->start_fault->code == FAULT_NONE)
			fault_set(s->start_fault, FAULT_UNAVAILABLE, "its keeper died at birth, try again");
		sandbox_step_done(s);
	}
	if (s->state == SANDBOX_RUNNING)
		s->state = SANDBOX_ORPHANED;
	/* Not at once: the link is in the middle of its own end. */
	if (s->state == SANDBOX_ORPHANED || s->state == SANDBOX_STOPPING)
		retry_later(s->worker);
}

/* --- what keepers say unasked --- */

static void on_process_exited(struct sandbox *s, struct msg_request *r, const Bulkhead__TaskExit *m) {
	tell_end(s, m);
	Bulkhead__Empty none = BULKHEAD__EMPTY__INIT;
	process_exited_reply(r, &none, NULL, 0);
}

static void on_container_oom(struct sandbox *s, struct msg_request *r, const Bulkhead__TaskOom *m) {
	tell_oom(s, m);
	Bulkhead__Empty none = BULKHEAD__EMPTY__INIT;
	container_oom_reply(r, &none, NULL, 0);
}

#define TO_TASK_OF_KEEPER(name) HANDLER_DEFINE(struct sandbox, name)
#include "msg/receivers.def"

const struct link_handler keeper_handlers[] = {
#define TO_TASK_OF_KEEPER(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};
