#include "workers/keeper/criu.h"

#include "base/clock.h"
#include "base/fd.h"
#include "internal/common.pb-c.h"
#include "workers/keeper/process.h"
#include "workers/keeper/sys.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define LOG "dump.log"
#define RESTORE_LOG "restore.log"
#define PID_FILE "pid"
#define OUTPUT "output"
#define LOG_TAIL (16 * 1024)
#define LOG_LINES 3
#define MOUNTINFO_MAX (16 * 1024 * 1024)
#define ARGUMENTS_MAX 4096
#define ENV_GATE "BULKHEAD_GATE"
#define ENV_TIMEOUT "BULKHEAD_GATE_MS"
#define ENV_ACTION "CRTOOLS_SCRIPT_ACTION" /* criu's */
#define CRIU_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* --- mounts that aren't the container's own --- */

/* "\040" and its like, in place. */
static void unescape(char *text) {
	char *to = text;
	for (const char *p = text; *p; p++) {
		unsigned c;
		if (*p == '\\' && sscanf(p + 1, "%3o", &c) == 1) {
			*to++ = (char)c;
			p += 3;
		} else
			*to++ = *p;
	}
	*to = '\0';
}

struct mount_line {
	char *device, *point, *type;
};

/* "36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda rw" */
static bool line_parse(char *line, struct mount_line *ret) {
	char *field[5], *save = NULL, *dash = strstr(line, " - ");
	if (!dash)
		return false;
	*dash = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(field); i++)
		if (!(field[i] = strtok_r(i ? NULL : line, " ", &save)))
			return false;
	*ret = (struct mount_line){ field[2], field[4], strtok_r(dash + 3, " ", &save) };
	unescape(ret->point);
	return ret->type != NULL;
}

/* What the host has mounted, too, the pod's shared memory, and layers of other
 * images come from outside: they are named in the images, not saved. */
static bool is_external(const struct mount_line *l, const char *host, const char *shm) {
	char device[32];
	if (strcmp(l->point, "/") == 0)
		return false;
	snprintf(device, sizeof(device), " %.28s ", l->device);
	return strstr(host, device) || strcmp(l->device, shm) == 0 || strcmp(l->type, "overlay") == 0;
}

static char *mountinfo_read(pid_t pid) {
	char path[48], *text = NULL;
	snprintf(path, sizeof(path), "/proc/%d/mountinfo", (int)pid);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_read_all(fd, MOUNTINFO_MAX, &text, NULL) == 0 ? text : NULL;
}

/* Those among the mounts of a process that are at root or below it. In the
 * child: nothing is freed. */
static bool externals_add(pid_t host_pid, pid_t pid, const char *root, int shm_fd, const char **args, size_t *n) {
	char *host = mountinfo_read(host_pid), *own = mountinfo_read(pid), *save = NULL;
	char shm[32] = "";
	struct stat st;
	size_t skip = strlen(root);
	if (!host || !own)
		return false;
	if (shm_fd >= 0 && fstat(shm_fd, &st) == 0)
		snprintf(shm, sizeof(shm), "%u:%u", major(st.st_dev), minor(st.st_dev));
	for (char *line = strtok_r(own, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		struct mount_line l;
		char *text;
		if (!line_parse(line, &l) || strncmp(l.point, root, skip) != 0 || l.point[skip] != '/')
			continue;
		const char *outside = l.point;
		l.point += skip;
		if (!is_external(&l, host, shm))
			continue;
		if (*n + 3 > ARGUMENTS_MAX || asprintf(&text, "mnt[%s]:%s", l.point, outside) < 0)
			return false;
		args[(*n)++] = "--external";
		args[(*n)++] = text;
	}
	return true;
}

/* --- the child --- */

static int output_take(const char *folder) {
	char path[4096];
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "%s/" OUTPUT, folder);
	CLEANUP_FD int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ? -errno : 0;
}

static void environment_set(const struct criu_dump *d) {
	char text[32];
	clearenv();
	setenv("PATH", CRIU_PATH, 1);
	snprintf(text, sizeof(text), "%d", d->gate);
	setenv(ENV_GATE, text, 1);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)(d->timeout_ns / NS_PER_MS));
	setenv(ENV_TIMEOUT, text, 1);
}

void criu_dump(void *dump) {
	const struct criu_dump *d = dump;
	char pid[16], images[4096], script[48];
	static const char *args[ARGUMENTS_MAX];
	size_t n = 0;
	const int keep[] = { d->gate, d->held, d->shm };
	snprintf(pid, sizeof(pid), "%d", (int)d->pid);
	snprintf(images, sizeof(images), "%s/" CRIU_IMAGES, d->folder);
	snprintf(script, sizeof(script), "/proc/%d/exe", (int)getppid());
	const char *const fixed[] = {
		d->program,
		"dump",
		"--tree",
		pid,
		"--images-dir",
		images,
		"--work-dir",
		d->folder,
		"--log-file",
		LOG,
		"-v4",
		"--leave-running",
		"--manage-cgroups=ignore",
		"--file-locks",
		"--action-script",
		script,
	};
	for (; n < ARRAY_SIZE(fixed); n++)
		args[n] = fixed[n];
	if (d->freezer) {
		args[n++] = "--freeze-cgroup";
		args[n++] = d->freezer;
	}
	/* So that its children can be found when it has ended. */
	setsid();
	become_close_others(keep, ARRAY_SIZE(keep));
	if (output_take(d->folder) < 0 || !externals_add(getpid(), d->pid, "", d->shm, args, &n))
		_exit(126);
	environment_set(d);
	for (size_t i = 0; i < 2; i++)
		fcntl(keep[i], F_SETFD, 0);
	execv(d->program, (char *const *)(uintptr_t)args);
	dprintf(2, "execute %s: %s\n", d->program, strerrordesc_np(errno));
	_exit(127);
}

/* --- the other way --- */

int criu_check(const char *program, struct fault *fault) {
	if (access(program, X_OK) == 0)
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION,
			 "%s: %s: install criu, or say where it is (criu in bulkhead's configuration)", program,
			 strerrordesc_np(errno));
}

/* Each stream has a descriptor of its own: criu closes what it has been given.
 * What nobody wants any more leads nowhere. */
static bool streams_add(const struct criu_restore *c, const char **args, size_t *n) {
	for (size_t i = 0; i < 3; i++) {
		char *text;
		if (!c->numbers[i])
			continue;
		CLEANUP_FD int nowhere = c->stdio[i] < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
		int fd = fcntl(c->stdio[i] < 0 ? nowhere : c->stdio[i], F_DUPFD, 3);
		if (fd < 0)
			return false;
		if (asprintf(&text, "fd[%d]:pipe:[%llu]", fd, (unsigned long long)c->numbers[i]) < 0)
			return false;
		args[(*n)++] = "--inherit-fd";
		args[(*n)++] = text;
	}
	return true;
}

static _Noreturn void restore_execute(const struct criu_restore *c) {
	static const char *args[ARGUMENTS_MAX];
	char images[48], pid_file[4096];
	size_t n = 0;
	snprintf(images, sizeof(images), "/proc/self/fd/%d", c->images);
	snprintf(pid_file, sizeof(pid_file), "%s/" PID_FILE, c->folder);
	const char *const fixed[] = {
		c->program,	"restore",    "--images-dir",
		images,		"--work-dir", c->folder,
		"--log-file",	RESTORE_LOG,  "-v4",
		"--root",	c->root,      "--restore-detached",
		"--pidfile",	pid_file,     "--manage-cgroups=ignore",
		"--file-locks",
	};
	for (; n < ARRAY_SIZE(fixed); n++)
		args[n] = fixed[n];
	/* Whoever ends the maker ends what it was doing. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (!streams_add(c, args, &n) || !externals_add(c->host, getpid(), c->root, c->shm, args, &n) ||
	    output_take(c->folder) < 0)
		_exit(126);
	clearenv();
	setenv("PATH", CRIU_PATH, 1);
	fcntl(c->images, F_SETFD, 0);
	fcntl(c->held, F_SETFD, 0);
	execv(c->program, (char *const *)(uintptr_t)args);
	dprintf(2, "execute %s: %s\n", c->program, strerrordesc_np(errno));
	_exit(127);
}

static int pid_read(int folder, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	CLEANUP_FREE char *text = NULL;
	CLEANUP_FD int fd = openat(folder, PID_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_read_all(fd, 32, &text, NULL);
	pid_t pid = r < 0 ? 0 : atoi(text);
	int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	if (pidfd < 0)
		return fault_set(fault, FAULT_UNKNOWN, "criu has restored it, and it is gone");
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

int criu_restore(const struct criu_restore *c, pid_t *ret_pid, int *ret_pidfd, struct fault *fault) {
	siginfo_t end = { 0 };
	pid_t pid = fork();
	if (pid == 0)
		restore_execute(c);
	if (pid < 0)
		return fault_errno(fault, errno, "execute criu");
	while (waitid(P_PID, (id_t)pid, &end, WEXITED) < 0 && errno == EINTR)
		;
	if (end.si_code != CLD_EXITED || end.si_status != 0)
		return criu_failure(c->held, &end, fault);
	return pid_read(c->held, ret_pid, ret_pidfd, fault);
}

/* --- why it failed --- */

/* The end of a file, from the beginning of a line on; NULL: there is none. */
static char *tail_read(int folder, const char *name) {
	struct stat st;
	CLEANUP_FD int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	char *text = malloc(LOG_TAIL + 1);
	if (fd < 0 || fstat(fd, &st) < 0 || !text)
		goto nothing;
	ssize_t n = pread(fd, text, LOG_TAIL, MAX(st.st_size - LOG_TAIL, 0));
	if (n <= 0)
		goto nothing;
	text[n] = '\0';
	return text;
nothing:
	free(text);
	return NULL;
}

/* The last lines of it that are errors, joined; without them the last line. */
static bool errors_find(char *text, char *ret, size_t size) {
	const char *found[LOG_LINES] = { NULL }, *last = NULL;
	size_t n = 0, used = 0;
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		last = line;
		const char *error = strstr(line, "Error (");
		if (error)
			found[n++ % LOG_LINES] = error;
	}
	if (n == 0 && last)
		found[n++] = last;
	for (size_t i = n > LOG_LINES ? n - LOG_LINES : 0; i < n && used < size; i++)
		used += (size_t)snprintf(ret + used, size - used, "%s%s", used ? "; " : "", found[i % LOG_LINES]);
	return n > 0;
}

int criu_failure(int folder, const siginfo_t *end, struct fault *fault) {
	static const char *const logs[] = { LOG, RESTORE_LOG, OUTPUT };
	char text[FAULT_TEXT_MAX / 2];
	if (end->si_code != CLD_EXITED)
		return fault_set(fault, FAULT_UNKNOWN, "criu was ended by signal %d", end->si_status);
	for (size_t i = 0; i < ARRAY_SIZE(logs); i++) {
		CLEANUP_FREE char *tail = tail_read(folder, logs[i]);
		if (tail && errors_find(tail, text, sizeof(text)))
			return fault_set(fault, FAULT_UNKNOWN, "criu: %s", text);
	}
	return fault_set(fault, FAULT_UNKNOWN, "criu ended with status %d and said nothing", end->si_status);
}

/* --- the action script --- */

bool criu_calls(void) {
	return getenv(ENV_ACTION) && getenv(ENV_GATE);
}

/* criu closes everything of its scripts, but has it itself. */
static int gate_fetch(int fd) {
	CLEANUP_FD int criu = (int)syscall(SYS_pidfd_open, getppid(), 0);
	return criu < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, criu, fd, 0);
}

int criu_called(void) {
	const char *timeout = getenv(ENV_TIMEOUT);
	char word = BULKHEAD__GATE_WORD__GATE_DUMPED;
	if (strcmp(getenv(ENV_ACTION), "post-dump") != 0)
		return 0;
	struct pollfd p = { .fd = gate_fetch(atoi(getenv(ENV_GATE))), .events = POLLIN };
	if (write(p.fd, &word, 1) != 1 || poll(&p, 1, timeout ? atoi(timeout) : 0) != 1)
		return 1;
	return read(p.fd, &word, 1) == 1 && word == BULKHEAD__GATE_WORD__GATE_GO ? 0 : 1;
}
