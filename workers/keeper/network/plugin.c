/*
 * Owns the child and its pipes for the time of one call. The program is found
 * by open in its folder and executed by that descriptor, so what was checked is
 * what runs. Happy path: fork, write, read until the program is gone.
 */
#include "plugin.h"
#include "result.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define OUTPUT_MAX (1 << 20)
#define COMPLAINT_MAX 4096 /* of stderr, for the fault */
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

int plugin_name_check(const char *type, struct fault *fault) {
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(type);
	if (n > 0 && n <= 64 && strchr(letters, type[0]) &&
	    strspn(type, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n)
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.64s\" can't be the name of a CNI plugin", type);
}

static char *join(char *const *words, size_t n) {
	struct buffer b = { 0 };
	for (size_t i = 0; i < n; i++)
		buffer_addf(&b, "%s%s", i ? ":" : "", words[i]);
	return buffer_take_text(&b);
}

/* An O_PATH descriptor of the first program with that name, and its path. */
static int plugin_find(const struct plugin_call *call, char *ret_path, size_t room, struct fault *fault) {
	for (size_t i = 0; i < call->n_bin_dirs; i++) {
		CLEANUP_FD int dir = open(call->bin_dirs[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		CLEANUP_FD int fd = dir < 0 ? -1 : openat(dir, call->type, O_PATH | O_CLOEXEC);
		struct stat st;
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111))
			continue;
		snprintf(ret_path, room, "%s/%s", call->bin_dirs[i], call->type);
		return take_fd(&fd);
	}
	CLEANUP_FREE char *dirs = join(call->bin_dirs, call->n_bin_dirs);
	return fault_set(fault, FAULT_FAILED_PRECONDITION, "CNI plugin \"%s\" isn't installed: no such program in %s",
			 call->type, dirs ?: "its folders");
}

struct child {
	pid_t pid;
	int pidfd, out, err;
};

static void child_deinit(struct child *c) {
	if (c->pid > 0) {
		kill(-c->pid, SIGKILL);
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	fd_close_p(&c->pidfd);
	fd_close_p(&c->out);
	fd_close_p(&c->err);
}

static int config_file(const char *config) {
	CLEANUP_FD int fd = memfd_create("cni-config", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	int r = fd_write_all(fd, config, strlen(config));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	return r < 0 ? r : take_fd(&fd);
}

struct launch {
	const struct plugin_call *call;
	int program, in, out, err;
	const char *path;
	char **environment;
};

/* In the child; must not return. Everything that it needs was made before. */
static void launch(const struct launch *l) {
	sigset_t none;
	sigemptyset(&none);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	int program = fcntl(l->program, F_DUPFD, 10), netns = fcntl(l->call->host_netns, F_DUPFD, 10);
	int in = fcntl(l->in, F_DUPFD, 10), out = fcntl(l->out, F_DUPFD, 10), err = fcntl(l->err, F_DUPFD, 10);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(127);
	/* Not close-on-exec: a script's interpreter opens its program by it. */
	if (setns(netns, CLONE_NEWNET) < 0 || chdir("/") < 0 || dup2(program, 3) < 0 || close_range(4, ~0U, 0) < 0) {
		dprintf(2, "enter the host's network namespace: %s", strerrordesc_np(errno));
		_exit(127);
	}
	char *argv[] = { (char *)l->path, NULL };
	syscall(SYS_execveat, 3, "", argv, l->environment, AT_EMPTY_PATH);
	dprintf(2, "execute %s: %s", l->path, strerrordesc_np(errno));
	_exit(127);
}

static int child_start(struct launch *l, struct child *ret_child, struct fault *fault) {
	int out[2] = { -1, -1 }, err[2] = { -1, -1 };
	CLEANUP_FD int in = config_file(l->call->config);
	int r = in < 0 ? in : pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ? -errno : 0;
	struct child c = { .pid = -1, .pidfd = -1, .out = out[0], .err = err[0] };
	if (r == 0) {
		l->in = in;
		l->out = out[1];
		l->err = err[1];
		c.pid = fork();
		if (c.pid == 0)
			launch(l);
		r = c.pid < 0 ? -errno : 0;
	}
	fd_close(out[1]);
	fd_close(err[1]);
	if (r == 0) {
		c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
		if (c.pidfd < 0)
			r = -errno;
	}
	if (r < 0) {
		child_deinit(&c);
		return fault_errno(fault, r, "start CNI plugin \"%s\"", l->call->type);
	}
	*ret_child = c;
	return 0;
}

/* Takes what a pipe has; beyond keep bytes it's thrown away. 0 at its end. */
static int drain(int fd, struct buffer *b, size_t keep, size_t *total) {
	uint8_t data[4096];
	ssize_t n = read(fd, data, sizeof(data));
	if (n <= 0)
		return n < 0 && errno == EINTR;
	*total += (size_t)n;
	buffer_add(b, data, MIN((size_t)n, keep - MIN(keep, b->size)));
	return 1;
}

/* Until the program is gone and its pipes are empty. -ETIMEDOUT, or -EFBIG. */
static int child_listen(struct child *c, int64_t deadline, struct buffer *out, struct buffer *err) {
	size_t total_out = 0, total_err = 0;
	bool gone = false;
	for (;;) {
		struct pollfd p[] = { { c->out, POLLIN, 0 },
				      { c->err, POLLIN, 0 },
				      { gone ? -1 : c->pidfd, POLLIN, 0 } };
		int64_t left = deadline - clock_mono();
		if (left <= 0)
			return -ETIMEDOUT;
		/* Pipes that a grandchild keeps open end with the program. */
		int n = poll(p, 3, gone ? 0 : (int)MIN(left / NS_PER_MS + 1, INT64_C(1000)));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && gone)
			return 0;
		if (n <= 0)
			continue;
		if (p[0].revents && !drain(c->out, out, OUTPUT_MAX, &total_out))
			fd_close_p(&c->out);
		if (p[1].revents && !drain(c->err, err, COMPLAINT_MAX, &total_err))
			fd_close_p(&c->err);
		if (total_out > OUTPUT_MAX)
			return -EFBIG;
		gone |= p[2].revents != 0;
		if (gone && c->out < 0 && c->err < 0)
			return 0;
	}
}

static void trim(char *text) {
	for (size_t n = strlen(text); n > 0 && strchr(" \t\r\n", text[n - 1]); n--)
		text[n - 1] = '\0';
}

/* A failed plugin's own words: its error object, else what it wrote. */
static int complain(const struct plugin_call *call, char *out, char *err, int status, struct fault *fault) {
	struct cni_error e;
	trim(out);
	trim(err);
	if (cni_error_parse(out, &e)) {
		/* Codes below 100 are the specification's. */
		enum fault_code code = e.code == 11		    ? FAULT_UNAVAILABLE
				       : e.code == 7 || e.code == 4 ? FAULT_INVALID_ARGUMENT
				       : e.code == 1 || e.code == 2 ? FAULT_FAILED_PRECONDITION
								    : FAULT_UNKNOWN;
		return fault_set(fault, code, "CNI plugin \"%s\" %s: %s%s%s (code %u)", call->type, call->command,
				 e.message, e.details[0] ? ": " : "", e.details, e.code);
	}
	if (WIFSIGNALED(status))
		return fault_set(fault, FAULT_UNKNOWN, "CNI plugin \"%s\" %s: killed by signal %d%s%s", call->type,
				 call->command, WTERMSIG(status), *err ? ": " : "", err);
	return fault_set(fault, FAULT_UNKNOWN, "CNI plugin \"%s\" %s: exit status %d: %s", call->type, call->command,
			 WEXITSTATUS(status), *err ? err : out);
}

static int converse(const struct plugin_call *call, struct child *c, char **ret_output, struct fault *fault) {
	CLEANUP_BUFFER struct buffer out = { 0 }, err = { 0 };
	int status = 0;
	int r = child_listen(c, clock_mono() + call->timeout_ns, &out, &err);
	if (r == -ETIMEDOUT)
		return fault_set(fault, FAULT_DEADLINE_EXCEEDED,
				 "CNI plugin \"%s\" %s: not done after %lld seconds; killed", call->type, call->command,
				 (long long)(call->timeout_ns / NS_PER_SEC));
	if (r == -EFBIG)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "CNI plugin \"%s\" %s: more than %d bytes of output",
				 call->type, call->command, OUTPUT_MAX);
	if (r < 0)
		return fault_errno(fault, r, "CNI plugin \"%s\" %s", call->type, call->command);
	while (waitpid(c->pid, &status, 0) < 0)
		if (errno != EINTR)
			return fault_errno(fault, errno, "wait for CNI plugin \"%s\"", call->type);
	c->pid = -1;
	CLEANUP_FREE char *text = buffer_take_text(&out);
	CLEANUP_FREE char *words = buffer_take_text(&err);
	if (!text || !words)
		return fault_errno(fault, ENOMEM, "CNI plugin \"%s\" %s", call->type, call->command);
	if (status != 0)
		return complain(call, text, words, status, fault);
	*ret_output = take_ptr(text);
	return 0;
}

#define N_ENVIRONMENT 7

static void environment_free(char **environment) {
	for (size_t i = 0; i < N_ENVIRONMENT; i++)
		free(environment[i]);
}

static bool environment_make(const struct plugin_call *call, char **ret_environment) {
	CLEANUP_FREE char *dirs = join(call->bin_dirs, call->n_bin_dirs);
	const char *const pairs[N_ENVIRONMENT][2] = {
		{ "CNI_COMMAND", call->command },
		{ "CNI_CONTAINERID", call->container_id },
		{ "CNI_NETNS", call->netns },
		{ "CNI_IFNAME", call->ifname },
		{ "CNI_ARGS", call->args },
		{ "CNI_PATH", dirs },
		{ "PATH", getenv("PATH") ?: DEFAULT_PATH },
	};
	for (size_t i = 0; i < N_ENVIRONMENT; i++)
		if (!pairs[i][1] || asprintf(&ret_environment[i], "%s=%s", pairs[i][0], pairs[i][1]) < 0) {
			ret_environment[i] = NULL;
			return false;
		}
	return true;
}

int plugin_execute(const struct plugin_call *call, char **ret_output, struct fault *fault) {
	char path[512], *environment[N_ENVIRONMENT + 1] = { 0 };
	int r = plugin_name_check(call->type, fault);
	if (r < 0)
		return r;
	CLEANUP_FD int program = plugin_find(call, path, sizeof(path), fault);
	if (program < 0)
		return program;
	if (!environment_make(call, environment)) {
		environment_free(environment);
		return fault_errno(fault, ENOMEM, "start CNI plugin \"%s\"", call->type);
	}
	struct launch l = { .call = call, .program = program, .path = path, .environment = environment };
	CLEANUP(child_deinit) struct child c = { .pid = -1, .pidfd = -1, .out = -1, .err = -1 };
	r = child_start(&l, &c, fault);
	if (r == 0)
		r = converse(call, &c, ret_output, fault);
	environment_free(environment);
	return r;
}
