/*
 * From a copy of the keeper to a container's program: what a process takes on
 * (session, limits, ids, capabilities, seccomp) and the exec. Two rules decide
 * the order. Nothing of the host is open, mapped or reachable by a path once a
 * foreign file can be resolved. And seccomp comes last, directly before exec,
 * holding CAP_SYS_ADMIN until then when no_new_privs isn't asked for; exec
 * takes that away again, since it is in no set that survives it.
 */
#include "base/fd.h"
#include "workers/keeper/caps.h"
#include "workers/keeper/inside.h"
#include "workers/keeper/limits.h"
#include "workers/keeper/oom.h"
#include "workers/keeper/process.h"
#include "workers/keeper/sys.h"

#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define STATUS_FD 3
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- what the keeper is told --- */

static void status_send(int fd, const struct status *s, size_t size) {
	/* The keeper may be dead; then nobody waits for it. */
	ssize_t ignored = send(fd, s, size, MSG_NOSIGNAL);
	(void)ignored;
}

void become_failed(int status, const struct fault *fault) {
	struct status s = { .kind = STATUS_FAULT, .code = fault->code };
	snprintf(s.text, sizeof(s.text), "%s", fault->text);
	status_send(status, &s, offsetof(struct status, text) + strlen(s.text) + 1);
	_exit(PROCESS_FAILED);
}

void become_warn(int status, const char *format, ...) {
	struct status s = { .kind = STATUS_WARNING };
	va_list ap;
	va_start(ap, format);
	vsnprintf(s.text, sizeof(s.text), format, ap);
	va_end(ap);
	status_send(status, &s, offsetof(struct status, text) + strlen(s.text) + 1);
}

bool become_send(int status, const struct status *s, size_t size, int fd) {
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)(uintptr_t)s, size };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return sendmsg(status, &m, MSG_NOSIGNAL) >= 0;
}

void become_send_terminal(int status, int terminal) {
	struct status s = { .kind = STATUS_TERMINAL };
	/* The keeper may be dead; then nobody waits for it. */
	(void)become_send(status, &s, offsetof(struct status, text), terminal);
}

/* --- the first steps --- */

void become_close_others(const int *keep, size_t n) {
	int next = 3;
	for (;;) {
		int lowest = INT_MAX;
		for (size_t i = 0; i < n; i++)
			if (keep[i] >= next && keep[i] < lowest)
				lowest = keep[i];
		if (lowest == INT_MAX) {
			sys_close_range((unsigned)next, ~0U, 0);
			return;
		}
		if (lowest > next)
			sys_close_range((unsigned)next, (unsigned)lowest - 1, 0);
		next = lowest + 1;
	}
}

/* exec keeps what is ignored and blocked; a program expects neither. A keeper
 * ignores SIGPIPE and nothing else, see keeper_main. */
static void signals_reset(void) {
	sigset_t none;
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The security module's label for the next exec, through the host's /proc. */
static int label_set(const char *path, const char *fallback, const char *prefix, const char *label,
		     struct fault *fault) {
	char text[512];
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 && fallback)
		fd = open(fallback, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int n = snprintf(text, sizeof(text), "%s%s", prefix, label);
	if ((size_t)n >= sizeof(text))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the label \"%s\" is too long", label);
	int r = fd_write_all(fd, text, (size_t)n);
	return r < 0 ? fault_errno(fault, r, "apply the label \"%s\"", label) : 0;
}

static bool kernel_has(const char *path) {
	return access(path, F_OK) == 0;
}

static int labels_set(const struct become *b, struct fault *fault) {
	const Grpc__Process *p = b->process;
	int r = 0;
	fault->code = FAULT_NONE;
	if (p->apparmorprofile[0] && strcmp(p->apparmorprofile, "unconfined") != 0) {
		if (!kernel_has("/sys/kernel/security/apparmor") && !kernel_has("/proc/self/attr/apparmor/exec"))
			return fault_set(fault, FAULT_UNIMPLEMENTED,
					 "AppArmor profile \"%s\": this kernel has no AppArmor, or it is off",
					 p->apparmorprofile);
		r = label_set("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec", "exec ", p->apparmorprofile,
			      fault);
		if (r < 0 && fault->code == FAULT_NONE)
			return fault_errno(fault, r, "AppArmor profile \"%s\"", p->apparmorprofile);
	}
	if (r < 0 || !p->selinuxlabel[0])
		return r;
	/* Those who ask for a label do so wherever they run. */
	if (!kernel_has("/sys/fs/selinux/enforce")) {
		become_warn(b->status, "SELinux label \"%s\" is not applied: this kernel has no SELinux, or it is off",
			    p->selinuxlabel);
		return 0;
	}
	r = label_set("/proc/self/attr/exec", NULL, "", p->selinuxlabel, fault);
	return r < 0 && fault->code == FAULT_NONE ? fault_errno(fault, r, "SELinux label \"%s\"", p->selinuxlabel) : r;
}

int become_prepare(const struct become *b, struct fault *fault) {
	/* Others in the same pid namespace can't look into it before its exec. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0);
	signals_reset();
	setsid();
	umask(0022);
	if (!b->scored)
		oom_score_become(b->process->oomscoreadj, b->status);
	return labels_set(b, fault);
}

/* --- the last steps --- */

static int null_open(void) {
	CLEANUP_FD int fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW);
	struct stat st;
	/* An image may have anything there; nothing to read is good enough then. */
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))
		return take_fd(&fd);
	int pipe_ends[2];
	if (pipe2(pipe_ends, O_CLOEXEC) < 0)
		return -errno;
	close(pipe_ends[1]);
	return pipe_ends[0];
}

static int stdio_set(struct become *b, struct fault *fault) {
	CLEANUP_FD int null = -1;
	for (int i = 0; i < 3; i++) {
		if (b->stdio[i] < 0 && null < 0)
			null = null_open();
		int from = b->stdio[i] < 0 ? null : b->stdio[i];
		if (from < 0 || dup2(from, i) < 0)
			return fault_errno(fault, errno, "set up standard streams");
	}
	/* Its number may be the one that the status socket is about to get. */
	fd_replace(&null, -1);
	if (b->process->terminal)
		ioctl(0, TIOCSCTTY, 0);
	if (b->status != STATUS_FD && dup3(b->status, STATUS_FD, O_CLOEXEC) < 0)
		return fault_errno(fault, errno, "set up standard streams");
	b->status = STATUS_FD;
	sys_close_range(STATUS_FD + 1, ~0U, 0);
	return 0;
}

static int directory_enter(const char *cwd, bool make, struct fault *fault) {
	CLEANUP_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char where[PATH_MAX];
	if (root < 0)
		return fault_errno(fault, errno, "open the container's root");
	if (cwd[0] && cwd[0] != '/')
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "working directory \"%s\" is not an absolute path",
				 cwd);
	if (!cwd[0])
		cwd = "/";
	CLEANUP_FD int fd = make ? inside_make(root, cwd, true) : inside_open(root, cwd, O_PATH | O_DIRECTORY);
	if (fd < 0 || fchdir(fd) < 0)
		return fault_errno(fault, fd < 0 ? fd : errno, "working directory \"%s\"", cwd);
	/* "(unreachable)..." when it isn't below the root. */
	if (!getcwd(where, sizeof(where)) || where[0] != '/')
		return fault_set(fault, FAULT_PERMISSION_DENIED, "working directory \"%s\" is outside of the root",
				 cwd);
	return 0;
}

static void capabilities_warn(const struct become *b, uint64_t missing) {
	char names[512] = "";
	for (unsigned i = 0; i < 64; i++) {
		size_t used = strlen(names);
		if (missing >> i & 1)
			snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", caps_name(i));
	}
	if (missing)
		become_warn(b->status, "not granted, since bulkhead itself does not have them: %s", names);
}

static void stream_own(int fd, uid_t uid) {
	/* A file system that refuses makes it no worse than it was. */
	if (fchown(fd, uid, (gid_t)-1) < 0)
		errno = 0;
}

/* So that the program can open its own /dev/stdout again. */
static void streams_own(const struct user_ids *u) {
	for (int i = 0; i < 3; i++) {
		struct stat st;
		if (fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(i)))
			stream_own(i, u->uid);
	}
}

static int ids_set(const struct user_ids *u, struct fault *fault) {
	if (setgroups(u->n_groups, u->groups) < 0)
		return fault_errno(fault, errno, "set supplementary groups");
	if (setresgid(u->gid, u->gid, u->gid) < 0)
		return fault_errno(fault, errno, "become group %u", u->gid);
	if (setresuid(u->uid, u->uid, u->uid) < 0)
		return fault_errno(fault, errno, "become user %u", u->uid);
	return 0;
}

static int privileges_set(const struct become *b, const struct user_ids *u, struct fault *fault) {
	struct caps caps;
	uint64_t missing;
	int r = caps_parse(b->process->capabilities, &caps, &missing, fault);
	if (r < 0)
		return r;
	capabilities_warn(b, missing);
	if (u->uid != 0)
		streams_own(u);
	r = caps_bound(&caps);
	if (r == 0)
		r = caps_keep();
	if (r < 0)
		return fault_errno(fault, r, "limit capabilities");
	r = ids_set(u, fault);
	if (r < 0)
		return r;
	/* Ids have changed, so it is dumpable again. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	bool keep = b->seccomp_size > 0 && !b->process->nonewprivileges;
	r = caps_final(&caps, keep ? UINT64_C(1) << CAP_SYS_ADMIN : 0);
	if (r < 0)
		return fault_errno(fault, r, "set capabilities");
	if (b->process->nonewprivileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fault_errno(fault, errno, "set no_new_privs");
	return 0;
}

static int seccomp_set(const struct become *b, struct fault *fault) {
	struct sock_fprog program = {
		.len = (unsigned short)(b->seccomp_size / sizeof(struct sock_filter)),
		.filter = (struct sock_filter *)b->seccomp,
	};
	if (b->seccomp_size == 0)
		return 0;
	if (b->seccomp_flags &
	    ~(uint32_t)(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown seccomp flags 0x%x", b->seccomp_flags);
	if (b->seccomp_size % sizeof(struct sock_filter) || b->seccomp_size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a seccomp program of %zu bytes", b->seccomp_size);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, b->seccomp_flags, &program) < 0)
		return fault_errno(fault, errno, "load the seccomp filter");
	return 0;
}

static const char *env_find(char *const *env, size_t n, const char *name) {
	size_t size = strlen(name);
	const char *found = NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(env[i], name, size) == 0 && env[i][size] == '=')
			found = env[i] + size + 1;
	return found;
}

/* The environment with what every program may expect in it. */
static char **env_make(const struct become *b, const struct user_ids *u, char home[static USER_HOME_MAX + 8]) {
	const Grpc__Process *p = b->process;
	char **env = calloc(p->n_env + 4, sizeof(*env));
	size_t n = 0;
	if (!env)
		return NULL;
	for (size_t i = 0; i < p->n_env; i++)
		env[n++] = p->env[i];
	if (!env_find(p->env, p->n_env, "PATH"))
		env[n++] = (char *)"PATH=" DEFAULT_PATH;
	if (!env_find(p->env, p->n_env, "HOME")) {
		snprintf(home, USER_HOME_MAX + 8, "HOME=%s", u->home);
		env[n++] = home;
	}
	if (p->terminal && !env_find(p->env, p->n_env, "TERM"))
		env[n++] = (char *)"TERM=xterm";
	return env;
}

/* As execvp does it, with the container's PATH. Returns the errno to report. */
static int exec_search(char **args, char **env, size_t n_env) {
	const char *path = env_find(env, n_env, "PATH");
	int error = ENOENT;
	if (strchr(args[0], '/')) {
		execve(args[0], args, env);
		return errno;
	}
	for (const char *p = path ? path : DEFAULT_PATH; *p;) {
		char file[PATH_MAX];
		size_t n = strcspn(p, ":");
		if ((size_t)snprintf(file, sizeof(file), "%.*s/%s", n ? (int)n : 1, n ? p : ".", args[0]) <
		    sizeof(file)) {
			execve(file, args, env);
			if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
				return errno;
			if (errno == EACCES)
				error = EACCES;
		}
		p += n + (p[n] == ':');
	}
	return error;
}

static bool is_missing(const char *file) {
	struct stat st;
	return stat(file, &st) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

/* Where exec_search would look. */
static bool program_missing(const char *program, char *const *env, size_t n_env) {
	const char *path = env_find(env, n_env, "PATH");
	bool missing = true;
	if (strchr(program, '/'))
		return is_missing(program);
	for (const char *p = path ? path : DEFAULT_PATH; *p && missing;) {
		char file[PATH_MAX];
		size_t n = strcspn(p, ":");
		snprintf(file, sizeof(file), "%.*s/%s", n ? (int)n : 1, n ? p : ".", program);
		missing = is_missing(file);
		p += n + (p[n] == ':');
	}
	return missing;
}

static _Noreturn void exec_failed(const struct become *b, const char *program, int error) {
	struct fault fault;
	/* What can't be executed is the caller's mistake, whatever the errno. */
	fault_errno(&fault, error, "exec \"%s\"", program);
	fault.code = FAULT_INVALID_ARGUMENT;
	become_failed(b->status, &fault);
}

static _Noreturn void run(struct become *b, char **args, char **env) {
	struct fault fault = { 0 };
	size_t n_env = 0;
	while (env[n_env])
		n_env++;
	if (seccomp_set(b, &fault) < 0)
		become_failed(b->status, &fault);
	exec_failed(b, args[0], exec_search(args, env, n_env));
}

void become_ready(const struct become *b, const struct user_ids *u) {
	struct status s = { .kind = STATUS_READY };
	s.user = *u;
	status_send(b->status, &s, sizeof(s));
	char go;
	ssize_t n;
	if (!b->wait)
		return;
	while ((n = recv(b->status, &go, 1, 0)) < 0 && errno == EINTR)
		;
	/* The keeper, and whoever held its end, is gone. */
	if (n != 1)
		_exit(PROCESS_FAILED);
}

static int user_find(const struct become *b, struct user_ids *ret, struct fault *fault) {
	if (b->user) {
		*ret = *b->user;
		return 0;
	}
	CLEANUP_FD int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fault_errno(fault, errno, "open the container's root");
	return user_resolve(root, b->process->user, b->strict_groups, ret, fault);
}

void become_program(struct become *b) {
	struct fault fault = { 0 };
	struct user_ids user;
	char home[USER_HOME_MAX + 8];
	int r = b->n_args > 0 && b->args[0][0] ? 0 : fault_set(&fault, FAULT_INVALID_ARGUMENT, "no command is given");
	if (r == 0)
		r = user_find(b, &user, &fault);
	if (r == 0)
		r = stdio_set(b, &fault);
	if (r == 0)
		r = directory_enter(b->process->cwd, !b->added, &fault);
	/* From here on nothing is opened: there may be no room for it. */
	if (r == 0)
		r = limits_resources(b->process, b->status, &fault);
	if (r == 0)
		r = privileges_set(b, &user, &fault);
	char **args = calloc(b->n_args + 1, sizeof(*args));
	char **env = env_make(b, &user, home);
	if (r == 0 && (!args || !env))
		r = fault_errno(&fault, ENOMEM, "prepare the command");
	if (r < 0)
		become_failed(b->status, &fault);
	memcpy(args, b->args, b->n_args * sizeof(*args));
	if (b->early && program_missing(args[0], b->process->env, b->process->n_env))
		exec_failed(b, args[0], ENOENT);
	become_ready(b, &user);
	run(b, args, env);
}
