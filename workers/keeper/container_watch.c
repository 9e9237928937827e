/*
 * A container on its way to running and to its end: what its child says through
 * the status socket, until it has executed, and what its pidfd says. Whoever
 * makes it for a runtime or a restore hands its process over here. Each failure
 * kills the child and is answered when it is gone.
 */
#include "workers/keeper/container.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/backend.h"
#include "workers/keeper/exitcode.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define UNKNOWN_EXIT 255
#define EXIT_PAUSE (5 * NS_PER_MS)
#define EXIT_TRIES 400
#define MAKER_TRIES 2000

/* --- what the child says --- */

void container_abort(struct container *c, const struct fault *fault) {
	if (!c->failed && (c->failed = malloc(sizeof(*c->failed))))
		*c->failed = *fault;
	container_kill_now(c);
}

static void started(struct container *c) {
	loop_source_free_p(&c->status_source);
	fd_replace(&c->status, -1);
	c->state = CONTAINER_RUNNING;
	c->started_at = clock_real();
	container_vault(c);
	state_save(c->keeper);
	struct msg_request *r = take_ptr(c->pending);
	if (r)
		container_created_reply(r, c);
	oom_watch_begin(c);
}

void container_go(struct container *c) {
	if (process_go(c->status) < 0) {
		/* Nobody listens: it has ended, and how is what its end will
		 * say. That of its status isn't a program's beginning. */
		container_status_drain(c);
		container_kill_now(c);
	}
	c->state = CONTAINER_STARTING;
}

static void exit_ready(void *ctx, uint32_t events);

static void maker_ended(void *ctx, uint32_t events) {
	struct container *c = ctx;
	waitid(P_PIDFD, (id_t)c->maker, &(siginfo_t){ 0 }, WEXITED | WNOHANG);
	loop_source_free_p(&c->maker_source);
	fd_replace(&c->maker, -1);
	restore_over(c);
}

/* From here on the process that the sender has made is the container's, and the
 * sender only the one who tells of it. */
static int process_taken(struct container *c, pid_t pid, int *pidfd) {
	if (pid == 0)
		return 0;
	if (*pidfd < 0)
		return -EBADMSG;
	loop_source_free_p(&c->exit_source);
	/* Where a runtime is at work others reap its maker, too. */
	fd_replace(&c->maker, take_fd(&c->pidfd));
	int r = loop_poll(c->keeper->loop, c->maker, POLLIN, maker_ended, c, &c->maker_source);
	if (r < 0)
		return r;
	c->pidfd = take_fd(pidfd);
	c->pid = pid;
	/* With all the groups that the runtime has made. */
	cgroup_adopt(c->keeper->config.cgroups, c->cgroup.path, &c->cgroup);
	return loop_poll(c->keeper->loop, c->pidfd, POLLIN, exit_ready, c, &c->exit_source);
}

static void prepared(struct container *c, const struct status *s, int *pidfd) {
	struct fault fault;
	int e = process_taken(c, s->pid, pidfd);
	if (e < 0) {
		fault_errno(&fault, e, "watch container \"%s\"", c->id);
		container_abort(c, &fault);
		return;
	}
	c->user = malloc(sizeof(*c->user));
	if (c->user)
		*c->user = s->user;
	c->state = CONTAINER_CREATED;
	c->created_at = clock_real();
	container_vault(c);
	if (c->start_at_once) {
		container_go(c);
		return;
	}
	state_save(c->keeper);
	struct msg_request *r = take_ptr(c->pending);
	if (r)
		container_created_reply(r, c);
}

static void terminal_arrived(struct container *c, int fd) {
	struct fault fault;
	if (fd < 0)
		return;
	if (process_terminal(c->stdio, c->log, fd, &fault) < 0)
		container_abort(c, &fault);
}

/* A restore's maker has said that all is there: its end, which follows, says
 * that it goes on. */
static void restored(struct container *c, const struct status *s, int *pidfd) {
	struct fault fault;
	int e = process_taken(c, s->pid, pidfd);
	if (e == 0)
		e = restore_take(c);
	if (e == 0)
		return;
	fault_errno(&fault, e, "watch container \"%s\"", c->id);
	container_abort(c, &fault);
}

static void status_handle(struct container *c, const struct status *s, int fd) {
	struct fault fault = { .code = (enum fault_code)s->code };
	switch (s->kind) {
	case STATUS_WARNING:
		container_warn(c, s->text);
		break;
	case STATUS_TERMINAL:
		terminal_arrived(c, fd);
		return;
	case STATUS_READY:
		if (c->state == CONTAINER_CREATING)
			prepared(c, s, &fd);
		break;
	case STATUS_PROCESS:
		restored(c, s, &fd);
		break;
	case STATUS_FAULT:
		snprintf(fault.text, sizeof(fault.text), "%s", s->text);
		container_abort(c, &fault);
		break;
	}
	fd_close(fd);
}

void container_status_drain(struct container *c) {
	struct status s;
	int fd;
	while (c->status >= 0) {
		int r = process_status_receive(c->status, &s, &fd);
		if (r == -EAGAIN)
			return;
		if (r == 1) {
			status_handle(c, &s, fd);
			continue;
		}
		if (c->state == CONTAINER_STARTING && !c->failed && (!c->restores || c->maker >= 0)) {
			started(c);
			return;
		}
		/* It died before; its pidfd tells how. */
		loop_source_free_p(&c->status_source);
		fd_replace(&c->status, -1);
	}
}

static void status_ready(void *ctx, uint32_t events) {
	container_status_drain(ctx);
}

/* --- its end --- */

static void exit_again(void *ctx) {
	struct container *c = ctx;
	loop_source_free_p(&c->exit_timer);
	exit_ready(c, POLLIN);
}

/* Not our child: whoever it fell to has to reap it before its code is known,
 * which takes a moment. A kernel that doesn't keep the code leaves us without;
 * it has certainly not ended well for us, so it doesn't count as success. */
static void foreign_ended(struct container *c) {
	uint32_t code = UNKNOWN_EXIT;
	int r = exitcode_of(c->pidfd, &code);
	if (r == -EAGAIN && c->exit_tries++ < EXIT_TRIES &&
	    loop_timer(c->keeper->loop, clock_mono() + EXIT_PAUSE, exit_again, c, &c->exit_timer) == 0)
		return;
	if (r < 0)
		log_event(LOG_WARN, "the exit code of a container is not known", "container", c->id, NULL);
	container_ended(c, code);
}

/* A short program may have ended before a runtime that has started it says so.
 * True: to be looked at again. */
static bool maker_awaited(struct container *c) {
	if (c->state == CONTAINER_STARTING)
		container_status_drain(c);
	if (c->state != CONTAINER_STARTING || c->status < 0 || c->exit_tries++ >= MAKER_TRIES ||
	    loop_timer(c->keeper->loop, clock_mono() + EXIT_PAUSE, exit_again, c, &c->exit_timer) < 0)
		return false;
	loop_source_free_p(&c->exit_source);
	return true;
}

static void exit_ready(void *ctx, uint32_t events) {
	struct container *c = ctx;
	siginfo_t info = { 0 };
	int pidfd = c->pidfd;
	/* Whose end is it, the container's or that of who makes it? */
	if (c->state == CONTAINER_CREATING)
		container_status_drain(c);
	if (c->pidfd != pidfd || maker_awaited(c))
		return;
	if (c->adopted) {
		loop_source_free_p(&c->exit_source);
		foreign_ended(c);
		return;
	}
	if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	container_ended(c, (uint32_t)(info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status));
}

int container_watch(struct container *c) {
	int r = c->status >= 0 ? loop_poll(c->keeper->loop, c->status, POLLIN, status_ready, c, &c->status_source) : 0;
	if (r == 0)
		r = loop_poll(c->keeper->loop, c->pidfd, POLLIN, exit_ready, c, &c->exit_source);
	return r;
}
