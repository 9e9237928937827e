#include "tool.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TIME_MAX (20 * NS_PER_SEC)
#define OUTPUT_MAX ((size_t)4 << 20)
#define ERRORS_MAX 512

static const char *const folders[] = { "/usr/sbin", "/sbin", "/usr/bin", "/bin" };

struct tool {
	const char *name;
	pid_t pid;
	int in, out, err;
	const uint8_t *input;
	size_t input_left;
	char *output;
	size_t size, room;
	char errors[ERRORS_MAX];
	size_t n_errors;
};

static bool program_find(const char *name, char *ret_path, size_t size) {
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
		snprintf(ret_path, size, "%s/%s", folders[i], name);
		if (access(ret_path, X_OK) == 0)
			return true;
	}
	return false;
}

static _Noreturn void become(const char *path, const char *const *argv, int in, int out, int err) {
	char *env[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	/* From above the standard ones, which they may be. */
	int from[] = { fcntl(in, F_DUPFD, 8), fcntl(out, F_DUPFD, 8), fcntl(err, F_DUPFD, 8) };
	for (int i = 0; i < 3; i++)
		if (dup2(from[i], i) < 0)
			_exit(126);
	close_range(3, ~0u, 0);
	execve(path, (char *const *)argv, env);
	_exit(127);
}

static int start(struct tool *t, const char *path, const char *const *argv) {
	int in[2], out[2], err[2];
	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	CLEANUP_FD int in_read = in[0], in_write = in[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	CLEANUP_FD int out_read = out[0], out_write = out[1];
	if (pipe2(err, O_CLOEXEC) < 0)
		return -errno;
	CLEANUP_FD int err_read = err[0], err_write = err[1];
	fcntl(in_write, F_SETFL, O_NONBLOCK);
	t->pid = fork();
	if (t->pid < 0)
		return -errno;
	if (t->pid == 0)
		become(path, argv, in_read, out_write, err_write);
	t->in = take_fd(&in_write);
	t->out = take_fd(&out_read);
	t->err = take_fd(&err_read);
	return 0;
}

static void feed(struct tool *t) {
	ssize_t n = t->input_left ? write(t->in, t->input, t->input_left) : 0;
	if (n > 0) {
		t->input += n;
		t->input_left -= (size_t)n;
	}
	if (t->input_left == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		fd_replace(&t->in, -1);
}

static int gather(struct tool *t) {
	if (t->room - t->size < 4096) {
		size_t room = MAX((size_t)16384, t->room * 2);
		char *more = room > OUTPUT_MAX * 2 ? NULL : realloc(t->output, room);
		if (!more)
			return -EFBIG;
		t->output = more;
		t->room = room;
	}
	ssize_t n = read(t->out, t->output + t->size, t->room - t->size);
	if (n > 0)
		t->size += (size_t)n;
	else if (n == 0 || errno != EINTR)
		fd_replace(&t->out, -1);
	return t->size > OUTPUT_MAX ? -EFBIG : 0;
}

/* Of what it complains the first is what counts. */
static void complain(struct tool *t) {
	char text[512];
	ssize_t n = read(t->err, text, sizeof(text));
	if (n == 0 || (n < 0 && errno != EINTR))
		fd_replace(&t->err, -1);
	for (ssize_t i = 0; i < n && t->n_errors < sizeof(t->errors) - 1; i++)
		t->errors[t->n_errors++] = text[i] == '\n' ? ' ' : text[i];
}

static int talk(struct tool *t) {
	int64_t deadline = clock_mono() + TIME_MAX;
	while (t->out >= 0 || t->err >= 0) {
		struct pollfd fds[] = { { t->in, POLLOUT, 0 }, { t->out, POLLIN, 0 }, { t->err, POLLIN, 0 } };
		int64_t left = deadline - clock_mono();
		int n = left <= 0 ? 0 : poll(fds, ARRAY_SIZE(fds), (int)(left / NS_PER_MS) + 1);
		if (n == 0)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && fds[0].revents)
			feed(t);
		if (n > 0 && fds[2].revents)
			complain(t);
		int r = n > 0 && fds[1].revents ? gather(t) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int judge(const struct tool *t, int r, int status, struct fault *fault) {
	size_t n = t->n_errors;
	while (n > 0 && t->errors[n - 1] == ' ')
		n--;
	if (r < 0)
		return fault_errno(fault, r, "%s", t->name);
	if (WIFSIGNALED(status))
		return fault_set(fault, FAULT_INTERNAL, "%s was ended by signal %d", t->name, WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return fault_set(fault, FAULT_INTERNAL, "%s has failed with %d%s%.*s", t->name, WEXITSTATUS(status),
				 n ? ": " : "", (int)n, t->errors);
	return 0;
}

static void tool_end(struct tool *t) {
	fd_close(t->in);
	fd_close(t->out);
	fd_close(t->err);
	free(t->output);
}

int tool_run(struct work *w, const char *const *argv, const void *input, size_t input_size,
	     ProtobufCBinaryData *ret_output, struct fault *fault) {
	CLEANUP(tool_end)
	struct tool t = { .name = argv[0], .in = -1, .out = -1, .err = -1, .input = input, .input_left = input_size };
	char path[64];
	int status = 0;
	if (!program_find(argv[0], path, sizeof(path)))
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "the guest has no program \"%s\"", argv[0]);
	signal(SIGPIPE, SIG_IGN);
	int r = start(&t, path, argv);
	if (r < 0)
		return fault_errno(fault, r, "start %s", argv[0]);
	r = talk(&t);
	if (r < 0)
		kill(t.pid, SIGKILL);
	while (waitpid(t.pid, &status, 0) < 0 && errno == EINTR)
		;
	r = judge(&t, r, status, fault);
	if (r < 0)
		return r;
	ret_output->data = arena_alloc(&w->arena, t.size + 1);
	if (!ret_output->data)
		return no_memory(fault);
	memcpy(ret_output->data, t.output ? t.output : "", t.size);
	ret_output->len = t.size;
	return 0;
}
