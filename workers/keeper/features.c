#include "workers/keeper/features.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fd.h"
#include "msg/typed.h"
#include "workers/keeper/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PATIENCE (5 * NS_PER_SEC)
#define OUTPUT_MAX (256 * 1024)
#define NOBODY 65534

struct question {
	struct msg_request *request;
	pid_t pid;
	int fd; /* its output */
	struct loop_source *ready, *patience;
	struct buffer output;
};

static _Noreturn void become_runtime(const char *program, int output) {
	char *args[] = { (char *)(uintptr_t)program, (char *)"features", NULL };
	char *env[] = { (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	sigset_t none;
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(null, 2) < 0)
		_exit(126);
	sys_close_range(3, ~0U, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (unshare(CLONE_NEWNET | CLONE_NEWIPC) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || chdir("/") < 0)
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	execve(program, args, env);
	_exit(127);
}

/* Whatever it has started is in its session; the zygote reaps all of it. */
static void question_free(struct question *q) {
	if (q->pid > 0)
		kill(-q->pid, SIGKILL);
	loop_source_free(q->ready);
	loop_source_free(q->patience);
	fd_close(q->fd);
	buffer_deinit(&q->output);
	free(q);
}

static struct msg_request *request_take(struct question *q) {
	struct msg_request *r = take_ptr(q->request);
	r->cancelled = NULL;
	return r;
}

static void answer(struct question *q) {
	Bulkhead__RuntimeFeaturesReply reply = BULKHEAD__RUNTIME_FEATURES_REPLY__INIT;
	struct msg_request *r = request_take(q);
	/* Its number may be another's as soon as it's reaped. */
	q->pid = 0;
	reply.output.data = q->output.data;
	reply.output.len = q->output.size;
	if (q->output.failed)
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory for a runtime's features");
	else
		runtime_features_reply(r, &reply, NULL, 0);
	question_free(q);
}

static void give_up(struct question *q, const char *why) {
	msg_failf(request_take(q), FAULT_UNAVAILABLE, "the runtime doesn't tell its features: %s", why);
	question_free(q);
}

static void out_of_patience(void *ctx) {
	give_up(ctx, "it takes too long");
}

static void cancelled(struct msg_request *r, void *ctx) {
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
	question_free(ctx);
}

static void output_ready(void *ctx, uint32_t events) {
	struct question *q = ctx;
	uint8_t data[4096];
	ssize_t n;
	while ((n = read(q->fd, data, sizeof(data))) > 0) {
		buffer_add(&q->output, data, (size_t)n);
		if (q->output.size > OUTPUT_MAX) {
			give_up(q, "it says too much");
			return;
		}
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	answer(q);
}

static int question_ask(struct question *q, struct loop *loop, const char *program) {
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	q->fd = ends[0];
	CLEANUP_FD int output = ends[1];
	if (fcntl(q->fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	q->pid = fork();
	if (q->pid == 0)
		become_runtime(program, output);
	if (q->pid < 0)
		return -errno;
	int r = loop_poll(loop, q->fd, POLLIN, output_ready, q, &q->ready);
	return r < 0 ? r : loop_timer(loop, clock_mono() + PATIENCE, out_of_patience, q, &q->patience);
}

void features_ask(struct loop *loop, const struct boot_runtime *runtime, struct msg_request *r) {
	struct question *q = calloc(1, sizeof(*q));
	if (!q) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory for a runtime's features");
		return;
	}
	*q = (struct question){ .request = r, .fd = -1 };
	r->cancelled = cancelled;
	r->cancelled_ctx = q;
	int e = question_ask(q, loop, runtime->path);
	if (e < 0)
		give_up(q, strerrordesc_np(-e));
}
