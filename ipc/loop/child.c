#include "loop/child.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct child {
	struct loop_source *source;
	pid_t pid;
	int pidfd, result;
	const char *name;
	void (*done)(void *ctx, const struct child_result *result);
	void *ctx;
};

/* The result is one write, which a pipe doesn't cut. */
_Static_assert(sizeof(struct child_result) <= 4096, "PIPE_BUF");

void descriptors_close_but(int *keep, size_t n) {
	unsigned next = 0;
	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j > 0 && keep[j - 1] > keep[j]; j--) {
			int t = keep[j];
			keep[j] = keep[j - 1];
			keep[j - 1] = t;
		}
	for (size_t i = 0; i < n; i++) {
		unsigned fd = (unsigned)keep[i];
		if (keep[i] < 0 || fd < next)
			continue;
		if (fd > next)
			close_range(next, fd - 1, 0);
		next = fd + 1;
	}
	close_range(next, ~0u, 0);
}

static _Noreturn void child_body(const struct child_options *o, pid_t parent, int result) {
	struct child_result end = { 0 };
	int keep[CHILD_KEEP_MAX + 2];
	size_t n = 0;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	prctl(PR_SET_NAME, o->name);
	if (o->nice)
		setpriority(PRIO_PROCESS, 0, o->nice);
	memcpy(keep, o->keep, o->n_keep * sizeof(int));
	n = o->n_keep;
	keep[n++] = STDERR_FILENO;
	keep[n++] = result;
	descriptors_close_but(keep, n);

	int r = o->run(o->arg, end.values, &end.fault);
	if (r < 0 && end.fault.code == FAULT_NONE)
		fault_errno(&end.fault, r, "%s", o->name);
	if (r >= 0)
		end.fault.code = FAULT_NONE;
	ssize_t written = write(result, &end, sizeof(end));
	_exit(written == sizeof(end) ? 0 : 1);
}

static void child_free(struct child *c) {
	loop_source_free(c->source);
	fd_close(c->pidfd);
	fd_close(c->result);
	free(c);
}

/* Without a whole result, how the process ended is the reason. */
static void result_read(struct child *c, const siginfo_t *info, struct child_result *ret_result) {
	ssize_t n = read(c->result, ret_result, sizeof(*ret_result));
	if (n == sizeof(*ret_result)) {
		ret_result->fault.text[FAULT_TEXT_MAX - 1] = '\0';
		return;
	}
	*ret_result = (struct child_result){ 0 };
	if (info->si_code == CLD_EXITED)
		fault_set(&ret_result->fault, FAULT_INTERNAL, "the process \"%s\" ended with status %d", c->name,
			  info->si_status);
	else
		fault_set(&ret_result->fault, info->si_status == SIGKILL ? FAULT_CANCELLED : FAULT_INTERNAL,
			  "the process \"%s\" was ended by SIG%s", c->name, sigabbrev_np(info->si_status) ?: "?");
}

static void child_ended(void *ctx, uint32_t events) {
	struct child *c = ctx;
	struct child_result result;
	siginfo_t info = { 0 };
	if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) < 0)
		info = (siginfo_t){ .si_code = CLD_EXITED, .si_status = -1 };
	else if (info.si_pid == 0)
		return;
	result_read(c, &info, &result);
	void (*done)(void *, const struct child_result *) = c->done;
	void *done_ctx = c->ctx;
	child_free(c);
	done(done_ctx, &result);
}

/* After a failure half-way the process is ended and reaped here. */
static int child_watch(struct child *c, struct loop *loop) {
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	int r = c->pidfd < 0 ? -errno : loop_poll(loop, c->pidfd, POLLIN, child_ended, c, &c->source);
	if (r < 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	return r;
}

int child_start(struct loop *loop, const struct child_options *options, struct child **ret_child) {
	struct child *c = calloc(1, sizeof(*c));
	CLEANUP_FD int theirs = -1;
	int ends[2];
	if (!c)
		return -ENOMEM;
	c->pidfd = c->result = -1;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
		free(c);
		return -errno;
	}
	c->result = ends[0];
	theirs = ends[1];
	c->name = options->name;
	c->done = options->done;
	c->ctx = options->ctx;
	pid_t self = getpid();
	c->pid = fork();
	if (c->pid == 0)
		child_body(options, self, theirs);
	int r = c->pid < 0 ? -errno : child_watch(c, loop);
	if (r < 0) {
		child_free(c);
		return r;
	}
	*ret_child = c;
	return 0;
}

void child_kill(struct child *c) {
	syscall(SYS_pidfd_send_signal, c->pidfd, SIGKILL, NULL, 0);
}
