/* The jails: what must work in them works, and everything else that a hostile
 * archive or tree could make its reader do ends it or fails. */
#include "base/fd.h"
#include "tap.h"
#include "loop/child.h"
#include "workers/snapshot/jail.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

static char root[64];
static int ends_of_pipe[2];

/* In the jail: 0 when it behaved as it should. */
struct attempt {
	const char *name;
	int (*run)(void);
	bool ends; /* by SIGSYS */
};

static int files_by_at(void) {
	int fd = openat(AT_FDCWD, "file", O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0 || write(fd, "x", 1) != 1 || fchown(fd, 1000, 1000) < 0 || fchmod(fd, 04755) < 0)
		return 1;
	if (mkdirat(AT_FDCWD, "dir", 0755) < 0 || symlinkat("file", AT_FDCWD, "link") < 0 ||
	    mknodat(AT_FDCWD, "null", S_IFCHR | 0666, makedev(1, 3)) < 0)
		return 2;
	return linkat(AT_FDCWD, "file", AT_FDCWD, "dir/hard", 0) < 0 ? 3 : 0;
}

static int owner_is_root(void) {
	struct stat st;
	int fd = openat(AT_FDCWD, "owned", O_WRONLY | O_CREAT | O_EXCL, 0644);
	return fd < 0 || fstat(fd, &st) < 0 || st.st_uid != 0 || st.st_gid != 0;
}

static int device_is_dead(void) {
	if (mknodat(AT_FDCWD, "kmsg", S_IFCHR | 0666, makedev(1, 11)) < 0)
		return 1;
	return openat(AT_FDCWD, "kmsg", O_RDONLY) >= 0;
}

static int no_host_file(void) {
	return openat(AT_FDCWD, "/etc/passwd", O_RDONLY) >= 0 ||
	       openat(AT_FDCWD, "../../../etc/passwd", O_RDONLY) >= 0 ||
	       openat(AT_FDCWD, "/proc/self/status", O_RDONLY) >= 0;
}

static int no_trusted_xattr(void) {
	int fd = openat(AT_FDCWD, "t", O_WRONLY | O_CREAT, 0644);
	return fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) == 0 || errno != EPERM;
}

static int do_socket(void) {
	return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}
static int do_unix(void) {
	return socket(AF_UNIX, SOCK_STREAM, 0) >= 0;
}
static int do_exec(void) {
	return execl("/bin/true", "true", NULL);
}
static int do_fork(void) {
	return fork() >= 0;
}
static int do_mount(void) {
	return mount("none", "/", "tmpfs", 0, NULL) == 0;
}
static int do_unshare(void) {
	return unshare(CLONE_NEWUSER) == 0;
}
static int do_chroot(void) {
	return chroot(".") == 0;
}
static int do_ptrace(void) {
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}
static int do_kill(void) {
	return kill(getppid(), SIGTERM) == 0;
}
static int do_uring(void) {
	char params[120] = { 0 };
	return syscall(SYS_io_uring_setup, 1, params) >= 0;
}
static int do_bpf(void) {
	return syscall(SYS_bpf, 0, NULL, 0) >= 0;
}
static int do_handle(void) {
	return syscall(SYS_open_by_handle_at, AT_FDCWD, NULL, 0) >= 0;
}
static int do_setuid(void) {
	return setuid(0) == 0;
}

static int reads_others(void) {
	char c;
	int fd = openat(AT_FDCWD, "secret", O_RDONLY);
	return fd < 0 || read(fd, &c, 1) != 1 || c != 's';
}

static int read_only(void) {
	return openat(AT_FDCWD, "anybodys", O_WRONLY) >= 0 || errno != EROFS;
}

static int no_trusted_reading(void) {
	char c;
	int fd = openat(AT_FDCWD, "secret", O_RDONLY);
	return fgetxattr(fd, "trusted.overlay.opaque", &c, 1) >= 0 || errno != ENODATA;
}

static int do_chown(void) {
	return fchown(openat(AT_FDCWD, "secret", O_RDONLY), 1, 1) == 0;
}
static int do_unlink(void) {
	return unlink("secret") == 0;
}

static const struct attempt unpack_attempts[] = {
	{ "files of any kind and owner can be made", files_by_at, false },
	{ "what is made belongs to root", owner_is_root, false },
	{ "a device can be made and not be opened", device_is_dead, false },
	{ "no file of the host is there", no_host_file, false },
	{ "overlayfs's marks can't be set", no_trusted_xattr, false },
	{ "an internet socket", do_socket, true },
	{ "a local socket", do_unix, true },
	{ "exec", do_exec, true },
	{ "fork", do_fork, true },
	{ "mount", do_mount, true },
	{ "unshare", do_unshare, true },
	{ "chroot", do_chroot, true },
	{ "ptrace", do_ptrace, true },
	{ "kill", do_kill, true },
	{ "io_uring", do_uring, true },
	{ "bpf", do_bpf, true },
	{ "open_by_handle_at", do_handle, true },
	{ "setuid", do_setuid, true },
};

static const struct attempt pack_attempts[] = {
	{ "a file of another's can be read", reads_others, false },
	{ "nothing can be written", read_only, false },
	{ "overlayfs's marks can't be seen", no_trusted_reading, false },
	{ "no file of the host is there", no_host_file, false },
	{ "chown", do_chown, true },
	{ "unlink", do_unlink, true },
	{ "a local socket", do_unix, true },
	{ "exec", do_exec, true },
	{ "fork", do_fork, true },
	{ "mount", do_mount, true },
	{ "kill", do_kill, true },
	{ "io_uring", do_uring, true },
	{ "open_by_handle_at", do_handle, true },
	{ "setuid", do_setuid, true },
};

static int do_open(void) {
	return openat(AT_FDCWD, "secret", O_RDONLY) >= 0;
}

static int pipes_only(void) {
	char c = 0;
	return write(ends_of_pipe[1], "p", 1) != 1 || read(ends_of_pipe[0], &c, 1) != 1 || c != 'p';
}

static const struct attempt inflate_attempts[] = {
	{ "a pipe that is there can be used", pipes_only, false },
	{ "a file", do_open, true },
	{ "chown", do_chown, true },
	{ "a local socket", do_unix, true },
	{ "exec", do_exec, true },
	{ "fork", do_fork, true },
	{ "kill", do_kill, true },
	{ "io_uring", do_uring, true },
};

static int capabilities_raise(void) {
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	if (syscall(SYS_capget, &header, data) < 0)
		return -1;
	data[0].effective = data[0].permitted;
	data[1].effective = data[1].permitted;
	return (int)syscall(SYS_capset, &header, data);
}

static int in_jail(enum jail_kind kind, int (*run)(void)) {
	struct fault fault;
	int fd = kind == JAIL_INFLATE ? -1 : open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* As the worker does it: not root, with its capabilities. */
	if (kind != JAIL_UNPACK &&
	    (prctl(PR_SET_KEEPCAPS, 1) < 0 || setresuid(1, 1, 1) < 0 || capabilities_raise() < 0))
		_exit(99);
	int r = jail_enter(kind, fd, &fault);
	if (r < 0) {
		dprintf(2, "# %s\n", fault.text);
		_exit(100);
	}
	_exit(run());
}

static int status_of(enum jail_kind kind, int (*run)(void)) {
	int status;
	pid_t pid = fork();
	if (pid == 0)
		in_jail(kind, run);
	waitpid(pid, &status, 0);
	return status;
}

static void test_descriptors(void) {
	int status, keep[3] = { 9, 2, 5 };
	pid_t pid = fork();
	if (pid == 0) {
		int fd = open("/dev/null", O_RDONLY);
		for (int i = 3; i < 20; i++)
			if (i != fd)
				dup2(fd, i);
		descriptors_close_but(keep, 3);
		for (int i = 0; i < 20; i++)
			if ((fcntl(i, F_GETFD) >= 0) != (i == 2 || i == 5 || i == 9))
				_exit(1);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	tap_check(status == 0, "a child keeps the descriptors that it needs, and no other");
}

/* A new folder with a file that only root may read, which has one of overlayfs's
 * marks, and one that anybody may write to. */
static void root_make(void) {
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	if (system(command) != 0 || mkdir(root, 0755) < 0)
		abort();
	CLEANUP_FD int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int secret = openat(dir, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	CLEANUP_FD int anybodys = openat(dir, "anybodys", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (write(secret, "s", 1) != 1 || fsetxattr(secret, "trusted.overlay.opaque", "y", 1, 0) < 0 ||
	    fchmod(anybodys, 0666) < 0)
		abort();
}

static void test_attempts(enum jail_kind kind, const char *name, const struct attempt *a, size_t n) {
	for (size_t i = 0; i < n; i++) {
		root_make();
		int status = status_of(kind, a[i].run);
		if (a[i].ends)
			tap_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "%s: %s ends it", name, a[i].name);
		else
			tap_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %s", name, a[i].name);
	}
}

int main(void) {
	test_descriptors();
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0) {
		tap_skip("jail", "needs root and a mount namespace");
		return tap_done();
	}
	snprintf(root, sizeof(root), "/var/tmp/bulkhead-jail-%d", getpid());
	test_attempts(JAIL_UNPACK, "unpack", unpack_attempts, ARRAY_SIZE(unpack_attempts));
	test_attempts(JAIL_PACK, "pack", pack_attempts, ARRAY_SIZE(pack_attempts));
	if (pipe(ends_of_pipe) < 0)
		abort();
	test_attempts(JAIL_INFLATE, "inflate", inflate_attempts, ARRAY_SIZE(inflate_attempts));
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command) == 0 ? tap_done() : 1;
}
