/*
 * A program that takes what a process writes: one of those that the
 * configuration names, on the host, with the keeper's rights. It reads 3 (stdout)
 * and 4 (stderr) to their ends, and closes 5 when it is ready.
 */
#include "workers/keeper/stdio.h"

#include "base/fd.h"
#include "workers/keeper/orphan.h"
#include "workers/keeper/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define PREFIX "binary://"
#define ARGS_MAX 32
#define READY_MS 10000

struct logger {
	const char *program, *id, *namespace;
	char *args[ARGS_MAX + 2];
	int host_network;
	int ends[3]; /* its own, of stdout, stderr and ready */
};

bool stdio_is_logger(const char *name) {
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

/* By its name, or by its path, which clients know better. */
static const char *program_find(const struct keeper *k, const char *name) {
	for (size_t i = 0; i < k->config.n_log_binaries; i++) {
		const struct boot_runtime *b = &k->config.log_binaries[i];
		if (strcmp(b->path, name) == 0 || (name[0] == '/' && strcmp(b->name, name + 1) == 0))
			return b->path;
	}
	return NULL;
}

/* "key=value&key=value" as arguments: key, value, key, value. */
static int args_parse(struct logger *l, char *query, struct fault *fault) {
	size_t n = 1;
	char *save = NULL;
	l->args[0] = (char *)(uintptr_t)l->program;
	for (char *p = query ? strtok_r(query, "&", &save) : NULL; p; p = strtok_r(NULL, "&", &save)) {
		char *value = strchr(p, '=');
		if (n + 2 > ARGS_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d arguments for \"%s\"", ARGS_MAX,
					 l->program);
		if (value)
			*value++ = '\0';
		l->args[n++] = p;
		if (value && *value)
			l->args[n++] = value;
	}
	return 0;
}

static _Noreturn void become_logger(const struct logger *l) {
	char id[128], namespace[128];
	char *env[] = { id, namespace, (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	sigset_t none;
	snprintf(id, sizeof(id), "CONTAINER_ID=%s", l->id);
	snprintf(namespace, sizeof(namespace), "CONTAINER_NAMESPACE=%s", l->namespace);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* The pod's network is the container's. */
	bool good = l->host_network < 0 || setns(l->host_network, CLONE_NEWNET) == 0;
	int copies[3];
	for (int i = 0; i < 3; i++)
		good &= (copies[i] = fcntl(l->ends[i], F_DUPFD, 16)) >= 0;
	for (int i = 0; good && i < 3; i++)
		good = dup2(copies[i], 3 + i) == 3 + i;
	sys_close_range(6, ~0U, 0);
	if (good)
		execve(l->program, l->args, env);
	/* Whoever is ready says nothing. */
	if (write(5, "x", 1) < 0)
		_exit(126);
	_exit(127);
}

static int spawn(struct keeper *k, const struct logger *l, struct fault *fault) {
	int pidfd = -1;
	struct clone_args args = { .flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
				   .pidfd = (uintptr_t)&pidfd,
				   .exit_signal = SIGCHLD };
	pid_t pid = sys_clone3(&args);
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		become_logger(l);
	}
	if (pid < 0)
		return fault_errno(fault, errno, "start \"%s\"", l->program);
	orphan_adopt(k->loop, &pidfd);
	fd_close(pidfd);
	return 0;
}

static int ready_wait(const struct logger *l, int ready, struct fault *fault) {
	struct pollfd p = { .fd = ready, .events = POLLIN };
	char byte;
	if (poll(&p, 1, READY_MS) <= 0)
		return fault_set(fault, FAULT_DEADLINE_EXCEEDED, "\"%s\" isn't ready after %d seconds", l->program,
				 READY_MS / 1000);
	if (read(ready, &byte, 1) != 0)
		return fault_set(fault, FAULT_INTERNAL, "\"%s\" can't be executed, or says that it failed", l->program);
	return 0;
}

static int run(struct keeper *k, struct logger *l, int ret_outputs[LOG_STREAMS], struct fault *fault) {
	int ours[3] = { -1, -1, -1 }, r = 0;
	for (int i = 0; i < 3; i++)
		l->ends[i] = -1;
	for (int i = 0; r == 0 && i < 3; i++) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) < 0) {
			r = fault_errno(fault, errno, "make a pipe for \"%s\"", l->program);
			break;
		}
		ours[i] = ends[i < LOG_STREAMS ? 1 : 0];
		l->ends[i] = ends[i < LOG_STREAMS ? 0 : 1];
	}
	if (r == 0)
		r = spawn(k, l, fault);
	for (int i = 0; i < 3; i++)
		fd_close(l->ends[i]);
	if (r == 0)
		r = ready_wait(l, ours[2], fault);
	for (int i = 0; r == 0 && i < LOG_STREAMS; i++)
		ret_outputs[i] = take_fd(&ours[i]);
	for (int i = 0; i < 3; i++)
		fd_close(ours[i]);
	return r;
}

int stdio_logger(struct keeper *k, const char *id, const char *name, int ret_outputs[LOG_STREAMS],
		 struct fault *fault) {
	CLEANUP_FREE char *copy = strdup(name + strlen(PREFIX));
	struct logger l = { .id = id, .namespace = k->pod.namespace ? k->pod.namespace : "" };
	if (!copy)
		return fault_errno(fault, ENOMEM, "start a program that logs");
	char *query = strchr(copy, '?');
	if (query)
		*query++ = '\0';
	l.program = program_find(k, copy);
	l.host_network = k->pod.host.netns;
	if (!l.program)
		return fault_set(
		    fault, FAULT_PERMISSION_DENIED,
		    "no program \"%.200s\" may take a container's output (log_binary.NAME = /path permits one)", copy);
	int r = args_parse(&l, query, fault);
	return r < 0 ? r : run(k, &l, ret_outputs, fault);
}
