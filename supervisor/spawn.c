/*
 * fork, and exec of another program: a worker has no memory in common with
 * the supervisor or with any other worker, nor its address layout.
 *
 * The boot block is written by the child. So libseccomp's memory, which the
 * compilation of the filter leaves behind, is gone with the exec, and filters
 * of several workers compile at the same time.
 */
#include "supervisor/spawn.h"

#include "base/fd.h"
#include "base/log.h"
#include "boot/block.h"
#include "boot/control.h"
#include "supervisor/privileges.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A folder with one program for each, or a program that is all of them. */
static void executable(const char *libexec, enum role role, char *ret_path, size_t size) {
	struct stat st;
	if (stat(libexec, &st) == 0 && S_ISREG(st.st_mode))
		snprintf(ret_path, size, "%s", libexec);
	else
		snprintf(ret_path, size, "%s/bulkhead-%s", libexec, role_name(role));
}

int spawn_check(const struct config *c, const char *libexec, struct fault *fault) {
	for (enum role role = ROLE_API; role < ROLE_COUNT; role++) {
		char path[BOOT_PATH_MAX + 32];
		executable(libexec, role, path, sizeof(path));
		if (privileges_wanted(role, c) && access(path, X_OK) < 0)
			return fault_errno(fault, errno, "execute %s (--libexec names the folder of the workers)",
					   path);
	}
	return 0;
}

/* What may have a meaning to a worker, of all that the service manager set. */
static const char *const inherited[] = {
	"PATH",	       "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",	    "ALL_PROXY",     "http_proxy",
	"https_proxy", "no_proxy",   "all_proxy",   "ASAN_OPTIONS", "UBSAN_OPTIONS",
};

static void environment(char **ret_env, char *space, size_t room) {
	size_t n = 0;
	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++) {
		const char *value = getenv(inherited[i]);
		if (!value)
			continue;
		int used = snprintf(space, room, "%s=%s", inherited[i], value);
		if (used < 0 || (size_t)used >= room)
			continue;
		ret_env[n++] = space;
		space += used + 1;
		room -= (size_t)used + 1;
	}
	ret_env[n] = NULL;
}

/* Puts fds at 3 and up in their order, without treading on one another. */
static int place(int *fds, size_t n) {
	for (size_t i = 0; i < n; i++) {
		fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64);
		if (fds[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < n; i++)
		if (dup2(fds[i], BOOT_FD_BLOCK + (int)i) < 0)
			return -errno;
	return 0;
}

static int standard_streams(void) {
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		return -errno;
	return 0;
}

static int boot_block_make(const struct spawn *s, struct fault *fault) {
	static struct boot_block block;
	block.role = s->role;
	block.instance = s->instance;
	block.restarts = s->restarts;
	block.config = s->config->boot;
	int r = privileges_compile(s->role, s->config, &block.privileges, fault);
	if (r < 0)
		return r;
	r = boot_block_write(&block);
	return r < 0 ? fault_errno(fault, r, "write the boot block") : r;
}

/* Returns only with what went wrong. */
static int become(const struct spawn *s, int control, struct fault *fault) {
	/* A session of its own: a terminal's Ctrl-C is the supervisor's alone. */
	setsid();
	umask(022);
	int block = boot_block_make(s, fault);
	if (block < 0)
		return block;
	int fds[] = { block, control, s->workers_lock };
	/* Keepers outlive everybody, so they must not hold the workers' lock. */
	size_t n = s->role == ROLE_KEEPER ? 2 : 3;
	int r = place(fds, n);
	if (r == 0)
		r = standard_streams();
	if (r == 0 && close_range(BOOT_FD_BLOCK + (unsigned)n, ~0u, 0) < 0)
		r = -errno;
	if (r < 0)
		return fault_errno(fault, r, "arrange descriptors");
	char path[BOOT_PATH_MAX + 32], name[32], space[8192], *env[ARRAY_SIZE(inherited) + 1];
	executable(s->libexec, s->role, path, sizeof(path));
	snprintf(name, sizeof(name), "bulkhead-%s", role_name(s->role));
	environment(env, space, sizeof(space));
	char endpoint[BOOT_ENDPOINT_NAME_MAX];
	snprintf(endpoint, sizeof(endpoint), "%s", s->config->boot.endpoints[s->instance].name);
	execve(path, (char *[]){ name, s->role == ROLE_API ? endpoint : NULL, NULL }, env);
	return fault_errno(fault, errno, "execute %s", path);
}

static void child(const struct spawn *s, int control, pid_t parent) {
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The second look: the parent may have died before the first line. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127);
	struct fault fault;
	become(s, control, &fault);
	log_event(LOG_ERROR, "can't start a worker", "worker", role_name(s->role), "error", fault.text, NULL);
	_exit(127);
}

int spawn(const struct spawn *s, struct spawned *ret_spawned, struct fault *fault) {
	int pair[2];
	int r = control_pair(pair);
	if (r < 0)
		return fault_errno(fault, r, "make a control socket");
	CLEANUP_FD int ours = pair[0], theirs = pair[1];
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return fault_errno(fault, errno, "fork");
	if (pid == 0)
		child(s, theirs, parent);
	int pidfd = pidfd_open(pid, 0);
	if (pidfd < 0) {
		r = errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return fault_errno(fault, r, "watch a process");
	}
	*ret_spawned = (struct spawned){ .pid = pid, .pidfd = pidfd, .control = take_fd(&ours) };
	return 0;
}
