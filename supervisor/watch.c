/*
 * The life of a worker as its supervisor sees it.
 *
 * It is watched by its pidfd, so that no pid is ever confused with another,
 * and by pings, since a worker can also hang. It is replaced at once when it
 * dies; one that dies again soon after its birth waits, longer each time, so
 * that a machine on which it can't live isn't kept busy with its funerals.
 *
 * A worker may report that a peer breaks the protocol. The peer is ended then,
 * but a worker's word counts once in its life: one that keeps on accusing is
 * itself what is broken. The process of an endpoint without full access is the
 * likeliest to be in somebody else's hands: its word counts for nothing, and
 * one against it always does. So whoever takes it over ends nobody else.
 */
#include "supervisor/supervisor.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "boot/control.h"
#include "supervisor/privileges.h"
#include "supervisor/spawn.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#define QUICK_DEATH (10 * NS_PER_SEC)
#define FIRST_DELAY (100 * NS_PER_MS)
#define LONGEST_DELAY (5 * NS_PER_SEC)
/* A start may include the repair of databases: so many times worker_timeout_s. */
#define START_FACTOR 4

static void slot_log(enum log_level level, const char *message, const struct slot *t, const char *key,
		     const char *value) {
	char pid[16];
	snprintf(pid, sizeof(pid), "%d", (int)t->pid);
	log_event(level, message, "worker", t->name, "pid", pid, key, value, NULL);
}

void slot_kill(struct slot *t, const char *why) {
	if (!t->pid)
		return;
	slot_log(LOG_WARN, "worker is ended", t, "why", why);
	if (pidfd_send_signal(t->pidfd, SIGKILL, NULL, 0) < 0)
		slot_log(LOG_ERROR, "worker can't be ended", t, "error", strerror(errno));
}

void slot_tell(struct slot *t, const struct control *c, const int *fds, size_t n_fds) {
	if (!t->pid)
		return;
	int r = control_send(t->control, c, fds, n_fds);
	/* When it is gone its pidfd says the rest. */
	if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		slot_kill(t, r == -EAGAIN ? "it doesn't read what it is told" : strerror(-r));
}

/* --- what it says --- */

static struct slot *slot_find(struct supervisor *s, uint32_t role, uint32_t instance, pid_t pid) {
	for (size_t i = 0; i < s->n_slots; i++) {
		struct slot *t = &s->slots[i];
		if (t->role == role && t->instance == instance && t->pid == pid && pid != 0)
			return t;
	}
	return NULL;
}

static bool restricted(const struct slot *t) {
	const struct boot_config *c = &t->supervisor->config.boot;
	return t->role == ROLE_API && c->endpoints[t->instance].access < ACCESS_FULL;
}

static void on_violation(struct slot *t, const struct control *c) {
	char why[192];
	struct slot *peer = slot_find(t->supervisor, c->peer, c->instance, (pid_t)c->arg);
	if (c->peer >= ROLE_COUNT || !privileges_peers(t->role, (enum role)c->peer)) {
		slot_kill(t, "it accuses somebody who isn't its peer");
	} else if (restricted(t)) {
		slot_kill(t, "it accuses, and its endpoint has no full access");
	} else if (t->accused && !(peer && restricted(peer))) {
		slot_kill(t, "it accuses again and again");
	} else if (peer) {
		t->accused |= !restricted(peer);
		snprintf(why, sizeof(why), "the %s worker says: %s", t->name, c->text);
		slot_kill(peer, why);
	}
}

static void on_ready(struct slot *t) {
	char ms[32];
	snprintf(ms, sizeof(ms), "%.1f", (double)(clock_mono() - t->started) / NS_PER_MS);
	slot_log(LOG_INFO, "worker is ready", t, "ms", ms);
	t->ready = t->was_ready = true;
	supervisor_ready(t->supervisor, t);
}

/* A container host goes on whatever has become of its pods. */
static bool may_finish(const struct slot *t) {
	return t->role == ROLE_METADATA && t->supervisor->config.boot.mode == BOOT_AGENT;
}

static void control_arrived(void *ctx, uint32_t events) {
	struct slot *t = ctx;
	struct control c;
	int fds[CONTROL_FDS_MAX], r;
	size_t n_fds;
	while ((r = control_recv(t->control, &c, fds, &n_fds)) == 1) {
		control_fds_close(fds);
		if (c.type == CONTROL_PONG)
			t->asked = false;
		else if (c.type == CONTROL_READY && !t->ready)
			on_ready(t);
		else if (c.type == CONTROL_VIOLATION)
			on_violation(t, &c);
		else if (c.type == CONTROL_FINISH && may_finish(t))
			supervisor_finish(t->supervisor);
		else
			slot_kill(t, "it says what no worker may say");
	}
	if (r == -EAGAIN)
		return;
	loop_source_free_p(&t->control_source);
	if (r < 0)
		slot_kill(t, "its control socket failed");
	else /* It is on its way out; should it only have closed the socket, it is now. */
		pidfd_send_signal(t->pidfd, SIGKILL, NULL, 0);
}

/* --- birth and death --- */

static void restart_due(void *ctx) {
	struct slot *t = ctx;
	loop_source_free_p(&t->restart_timer);
	slot_start(t);
}

static void restart_later(struct slot *t) {
	if (clock_mono() - t->started > QUICK_DEATH)
		t->quick_deaths = 0;
	int64_t delay = t->quick_deaths == 0 ? 0 : FIRST_DELAY << MIN(t->quick_deaths - 1, 8u);
	delay = MIN(delay, LONGEST_DELAY);
	t->quick_deaths++;
	t->restarts++;
	if (loop_timer(t->supervisor->loop, clock_mono() + delay, restart_due, t, &t->restart_timer) < 0)
		loop_stop(t->supervisor->loop, -ENOMEM);
}

static void slot_clear(struct slot *t) {
	loop_source_free_p(&t->exit_source);
	loop_source_free_p(&t->control_source);
	fd_replace(&t->pidfd, -1);
	fd_replace(&t->control, -1);
	t->pid = 0;
	t->ready = t->accused = t->asked = false;
}

static void end_text(const siginfo_t *i, char *text, size_t size) {
	if (i->si_code == CLD_EXITED)
		snprintf(text, size, "exited with %d", i->si_status);
	else
		snprintf(text, size, "killed by SIG%s", sigabbrev_np(i->si_status) ? sigabbrev_np(i->si_status) : "?");
}

static void exited(void *ctx, uint32_t events) {
	struct slot *t = ctx;
	siginfo_t info = { 0 };
	if (waitid(P_PIDFD, (id_t)t->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	bool stopping = t->supervisor->stopping;
	char how[48];
	end_text(&info, how, sizeof(how));
	slot_log(stopping ? LOG_INFO : LOG_WARN, "worker has ended", t, "how", how);
	slot_clear(t);
	if (!stopping) {
		links_end(t);
		restart_later(t);
	}
	supervisor_gone(t->supervisor, t);
}

static int slot_watch(struct slot *t) {
	struct loop *l = t->supervisor->loop;
	int r = loop_poll(l, t->pidfd, POLLIN, exited, t, &t->exit_source);
	return r < 0 ? r : loop_poll(l, t->control, POLLIN, control_arrived, t, &t->control_source);
}

void slot_start(struct slot *t) {
	struct supervisor *s = t->supervisor;
	struct spawn spawn_it = {
		.config = &s->config,
		.libexec = s->libexec,
		.role = t->role,
		.instance = t->instance,
		.restarts = t->restarts,
		.workers_lock = s->workers_lock,
	};
	struct spawned new;
	struct fault fault;
	t->started = clock_mono();
	if (spawn(&spawn_it, &new, &fault) < 0) {
		log_event(LOG_ERROR, "can't start a worker", "worker", t->name, "error", fault.text, NULL);
		restart_later(t);
		return;
	}
	t->pid = new.pid;
	t->pidfd = new.pidfd;
	t->control = new.control;
	int r = slot_watch(t);
	if (r < 0) {
		/* Unwatched it would live for ever as a zombie. */
		slot_log(LOG_ERROR, "worker can't be watched", t, "error", strerror(-r));
		loop_stop(s->loop, r);
		return;
	}
	links_make(t);
	struct control c = { .type = CONTROL_LISTENER, .arg = t->instance };
	if (t->role == ROLE_API)
		slot_tell(t, &c, &s->listeners[t->instance], 1);
	else if (t->role == ROLE_STREAM)
		slot_tell(t, &c, &s->stream_listener, 1);
}

/* --- liveness --- */

static void slot_look(struct slot *t, int64_t now, int64_t timeout) {
	if (!t->pid)
		return;
	if (!t->ready) {
		if (now - t->started > START_FACTOR * timeout)
			slot_kill(t, "it isn't ready");
	} else if (!t->asked) {
		t->asked = true;
		t->asked_at = now;
		slot_tell(t, &(struct control){ .type = CONTROL_PING }, NULL, 0);
	} else if (now - t->asked_at > timeout) {
		slot_kill(t, "it doesn't answer");
	}
}

static void look(void *ctx) {
	struct supervisor *s = ctx;
	int64_t timeout = s->config.worker_timeout_s * NS_PER_SEC;
	for (size_t i = 0; timeout > 0 && !s->stopping && i < s->n_slots; i++)
		slot_look(&s->slots[i], clock_mono(), timeout);
	if (watch_start(s) < 0)
		loop_stop(s->loop, -ENOMEM);
}

int watch_start(struct supervisor *s) {
	loop_source_free_p(&s->ping_timer);
	int64_t timeout = s->config.worker_timeout_s * NS_PER_SEC;
	int64_t period = timeout ? MAX(timeout / 3, NS_PER_SEC) : 60 * NS_PER_SEC;
	return loop_timer(s->loop, clock_mono() + period, look, s, &s->ping_timer);
}
