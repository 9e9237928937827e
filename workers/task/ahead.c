/*
 * A keeper ahead of its pod: the copy of the zygote and the namespaces, for which
 * the start of a pod would wait longest, are made while nobody waits.
 *
 * Owns: at most one keeper without a pod, known by our end of its socket alone.
 *
 *   none -> forking   a moment after a pod has started that could use one
 *   forking -> ready  the zygote has forked it
 *   ready -> none     a pod's start has taken it; or it wasn't used for a while,
 *                     so an idle daemon has none, and what its namespace has of
 *                     the host's settings isn't old; or it has ended; or the
 *                     configuration, of which it has a copy, has changed; or
 *                     its zygote is gone, which would reap what it leaves
 *
 * A keeper without a pod ends with its socket, so whatever becomes of us leaves
 * none behind. Failure: there is none, and the start of a pod forks its own.
 */
#include "ahead.h"

#include "base/clock.h"
#include "base/fd.h"

#include <poll.h>

#define MAKE_AFTER (20 * NS_PER_MS)
#define MAKE_LIMIT (20 * NS_PER_SEC)
#define KEEP_FOR (30 * NS_PER_SEC)

bool ahead_fits(const Bulkhead__SandboxStartRequest *m) {
	return m->network == BULKHEAD__NAMESPACE_MODE__POD && m->ipc == BULKHEAD__NAMESPACE_MODE__POD &&
	       (!m->bare || m->uts == BULKHEAD__NAMESPACE_MODE__POD) && m->n_join == 0 && m->n_uid_mappings == 0;
}

void ahead_drop(struct task_worker *w) {
	struct ahead *a = &w->ahead;
	msg_cancel(take_ptr(a->forking));
	loop_source_free_p(&a->watch);
	loop_source_free_p(&a->timer);
	fd_replace(&a->fd, -1);
}

static void dropped(void *ctx) {
	ahead_drop(ctx);
}

/* It says nothing unasked: it has ended. */
static void ended(void *ctx, uint32_t events) {
	ahead_drop(ctx);
}

static void forked(void *ctx, const struct msg_answer *answer) {
	struct task_worker *w = ctx;
	struct ahead *a = &w->ahead;
	a->forking = NULL;
	if (answer->fault || loop_poll(w->loop, a->fd, POLLIN, ended, w, &a->watch) < 0 ||
	    loop_timer(w->loop, clock_mono() + KEEP_FOR, dropped, w, &a->timer) < 0)
		ahead_drop(w);
}

static void make(void *ctx) {
	struct task_worker *w = ctx;
	struct ahead *a = &w->ahead;
	loop_source_free_p(&a->timer);
	CLEANUP_FD int theirs = -1;
	if (!link_attached(w->zygote) || keeper_socket(&a->fd, &theirs) < 0)
		return;
	Bulkhead__KeeperForkRequest m = BULKHEAD__KEEPER_FORK_REQUEST__INIT;
	struct msg_context context = { .deadline = clock_mono() + MAKE_LIMIT };
	m.ahead = true;
	a->forking = keeper_fork_send(w->zygote, &context, &m, &theirs, 1, forked, w);
}

void ahead_make(struct task_worker *w) {
	struct ahead *a = &w->ahead;
	/* Without a timer the next pod's start tries again. */
	if (a->enabled && a->fd < 0 && !a->timer)
		(void)!loop_timer(w->loop, clock_mono() + MAKE_AFTER, make, w, &a->timer);
}

int ahead_take(struct task_worker *w) {
	struct ahead *a = &w->ahead;
	if (!a->watch)
		return -1;
	int fd = take_fd(&a->fd);
	ahead_drop(w);
	return fd;
}
