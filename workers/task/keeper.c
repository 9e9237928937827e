/*
 * The link to a pod's keeper: how it is made, lost and found again.
 *
 * Owns: nothing but the moves; the link and the state are the sandbox's.
 *
 *   spawn   a socket pair, one end to the zygote, the other into the link
 *   down    running -> orphaned: revive; stopping: the teardown needs another
 *           keeper; starting: the open steps have failed and undo it
 *   revive  connect to keeper.sock in the pod's folder; the keeper lives and
 *           tells its state, or it is dead and a successor adopts the pod from
 *           the folder and the descriptors that mirror.c kept
 *
 * Failure: a sandbox that can't be revived stays orphaned and is tried again,
 * with a growing pause, until sandbox_stop ends it. Its containers run on.
 */
#include "stop.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "mirror.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define FORK_LIMIT (20 * NS_PER_SEC)
#define STATE_LIMIT (10 * NS_PER_SEC)
#define ADOPT_LIMIT (60 * NS_PER_SEC)
#define RETRY_PAUSE (NS_PER_SEC)

int keeper_spawn(struct sandbox *s, const struct msg_context *context, msg_done_fn done, struct fault *fault) {
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return fault_errno(fault, errno, "make a keeper's socket");
	CLEANUP_FD int theirs = pair[1];
	int r = link_attach_socket(s->link, pair[0]);
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

static void retry_later(struct task_worker *w);

static void orphan_failed(struct sandbox *s, const char *what, const struct fault *fault) {
	if (s->state != SANDBOX_ORPHANED)
		return;
	log_event(LOG_WARN, what, "pod", s->id, "why", fault->text, NULL);
	retry_later(s->worker);
}

static void revived(struct sandbox *s, const Bulkhead__SandboxInfo *info) {
	if (s->state != SANDBOX_ORPHANED)
		return;
	if (info && info->started)
		sandbox_remember(s, info->started);
	s->state = SANDBOX_RUNNING;
	s->attempts = 0;
	log_event(LOG_INFO, "keeper found again", "pod", s->id, NULL);
}

static void state_done(void *ctx, const struct msg_answer *a) {
	struct sandbox *s = ctx;
	if (a->fault)
		orphan_failed(s, "keeper doesn't tell its state", a->fault);
	else
		revived(s, keeper_state_answer(a)->info);
}

static void ask_state(struct sandbox *s) {
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	struct msg_context context = { .deadline = clock_mono() + STATE_LIMIT };
	keeper_state_send(s->link, &context, &m, NULL, 0, state_done, s);
}

void keeper_revive(struct sandbox *s) {
	int fd = -1;
	int r = rundir_connect(s->worker, s->id, &fd);
	if (r >= 0)
		r = link_attach_socket(s->link, fd);
	if (r >= 0) {
		ask_state(s);
		return;
	}
	struct fault fault = { 0 };
	fault_errno(&fault, r, "connect to \"%s/%s/keeper.sock\"", s->worker->pods_path, s->id);
	orphan_failed(s, "keeper isn't there", &fault);
}

void keeper_revive_all(struct task_worker *w) {
	size_t pos;
	for (struct map_node *n = map_first(&w->sandboxes, &pos); n; n = map_next(&w->sandboxes, &pos, n)) {
		struct sandbox *s = container_of(n, struct sandbox, node);
		if (s->state == SANDBOX_ORPHANED && !link_attached(s->link))
			keeper_revive(s);
		else if (s->state == SANDBOX_STOPPING)
			teardown_keeper_lost(s);
	}
}

static void retry_fired(void *ctx) {
	struct task_worker *w = ctx;
	loop_source_free_p(&w->retry);
	keeper_revive_all(w);
}

static void retry_later(struct task_worker *w) {
	if (!w->retry && loop_timer(w->loop, clock_mono() + RETRY_PAUSE, retry_fired, w, &w->retry) < 0)
		log_text(LOG_WARN, "out of memory: orphaned pods wait for the keepers' zygote");
}

void keeper_down(void *sandbox, struct link *l, bool violation, const char *text) {
	struct sandbox *s = sandbox;
	if (s->state != SANDBOX_GONE)
		log_event(violation ? LOG_ERROR : LOG_WARN, "keeper's link is down", "pod", s->id, "why", text, NULL);
	if (s->state == SANDBOX_STOPPING)
		teardown_keeper_lost(s);
	if (s->state != SANDBOX_RUNNING)
		return;
	s->state = SANDBOX_ORPHANED;
	keeper_revive(s);
}

/* --- what keepers say unasked --- */

static void on_process_exited(struct sandbox *s, struct msg_request *r, const Bulkhead__TaskExit *m) {
	struct link *metadata = s->worker->metadata;
	/* A metadata worker that is away asks for task_list when it is back; the
	 * keeper remembers each exit until the container is deleted. */
	if (metadata && link_attached(metadata))
		task_exited_send(metadata, NULL, m, NULL, 0, NULL, NULL);
	Bulkhead__Empty none = BULKHEAD__EMPTY__INIT;
	process_exited_reply(r, &none, NULL, 0);
}

HANDLER_DEFINE(struct sandbox, process_exited)

const struct link_handler keeper_handlers[] = {
	HANDLER(process_exited),
	{ 0 },
};
