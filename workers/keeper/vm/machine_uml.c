/*
 * User-mode Linux: a kernel that is a program, with neither KVM nor a second
 * processor. The agent is on its first serial line, which is a socket; it reaches
 * virtiofsd by vhost.c.
 *
 * A guest's kernel here is a process of the host like any other, and who has the
 * guest has that process: so it has a root of its own with nothing in it but what
 * it needs, no network, an unprivileged user, and the system calls of a list.
 * Processes of the guest are children of it whose calls it takes from them before
 * the host's kernel sees them. It is the first process of a PID namespace, with
 * which they all end.
 */
#include "workers/keeper/vm/machine.h"

#include "base/calls.h"
#include "base/fd.h"
#include "workers/keeper/sys.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define FRONT "front.sock" /* where vhost.c listens */
#define PROGRAM "/linux.uml"
#define SPARE_MB 64 /* of its file system, beside the guest's memory */

#if defined(__x86_64__)

/* What 6.1 was seen to call, and the same of other C libraries. */
#define CALLS_OF_PROCESSES                                                                                         \
	SYS_kill, SYS_tgkill, SYS_getpid, SYS_gettid, SYS_getppid, SYS_getpgrp, SYS_getuid, SYS_setsid, SYS_clone, \
	    SYS_execve, SYS_prctl, SYS_arch_prctl, SYS_modify_ldt, SYS_personality, SYS_set_tid_address,           \
	    SYS_set_robust_list, SYS_rseq, SYS_prlimit64, SYS_getrlimit, SYS_sched_yield, SYS_uname, SYS_sysinfo
#define CALLS_OF_TIME_AND_SIGNALS                                                                                      \
	SYS_timer_create, SYS_timer_delete, SYS_timer_settime, SYS_timer_gettime, SYS_setitimer, SYS_nanosleep,        \
	    SYS_clock_nanosleep, SYS_gettimeofday, SYS_time, SYS_rt_sigaction, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, \
	    SYS_rt_sigpending, SYS_sigaltstack
#define CALLS_OF_DESCRIPTORS                                                                                    \
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_lseek, SYS_close, SYS_fcntl, \
	    SYS_ioctl, SYS_dup, SYS_dup2, SYS_pipe2, SYS_eventfd2, SYS_poll, SYS_ppoll, SYS_epoll_create,       \
	    SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait, SYS_socket, SYS_socketpair,      \
	    SYS_connect, SYS_bind, SYS_getsockopt, SYS_setsockopt, SYS_sendmsg, SYS_recvmsg, SYS_sendto, SYS_recvfrom
#define CALLS_OF_FILES                                                                                           \
	SYS_open, SYS_openat, SYS_fstat, SYS_stat, SYS_lstat, SYS_newfstatat, SYS_statfs, SYS_access, SYS_mkdir, \
	    SYS_rmdir, SYS_unlink, SYS_rename, SYS_readlink, SYS_getdents64, SYS_getcwd, SYS_umask, SYS_fsync,   \
	    SYS_ftruncate, SYS_fallocate

static const unsigned calls[] = { SYS_ptrace,		SYS_wait4,	    CALLS_OF_LIBC, CALLS_OF_TIME_AND_SIGNALS,
				  CALLS_OF_DESCRIPTORS, CALLS_OF_PROCESSES, CALLS_OF_FILES };

/* --- its root --- */

static int file_put(const char *from, const char *to) {
	CLEANUP_FD int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 || mount(from, to, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

/* A folder of the host's, or the same link to one. */
static int libraries_put(const char *from) {
	const unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV;
	const char *to = from + 1;
	char target[PATH_MAX];
	struct stat st;
	if (lstat(from, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlink(from, target, sizeof(target) - 1);
		target[n < 0 ? 0 : n] = '\0';
		return n < 0 || symlink(target, to) < 0 ? -errno : 0;
	}
	return mkdir(to, 0755) < 0 || mount(from, to, NULL, MS_BIND, NULL) < 0 || mount(NULL, to, NULL, flags, NULL) < 0
		   ? -errno
		   : 0;
}

static int root_fill(const struct machine_birth *b) {
	static const char *const folders[] = { "usr", "dev", "proc", "tmp" };
	static const char *const libraries[] = { "/usr/lib", "/usr/lib64", "/lib", "/lib64" };
	static const char *const files[] = { "/dev/null", "/dev/random", "/proc/cpuinfo" };
	char front[PATH_MAX + sizeof(FRONT) + 1];
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(folders); i++)
		r = mkdir(folders[i], 0755) < 0 ? -errno : 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(libraries); i++)
		r = libraries_put(libraries[i]);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(files); i++)
		r = file_put(files[i], files[i] + 1);
	if (r == 0)
		r = file_put(b->config->uml, &PROGRAM[1]);
	if (r == 0)
		r = file_put(b->config->initrd, "initrd");
	snprintf(front, sizeof(front), "%s/" FRONT, b->folder);
	if (r == 0)
		r = file_put(front, FRONT);
	return r == 0 && (chown("tmp", b->config->uid, b->config->gid) < 0 || chmod("tmp", 0700) < 0) ? -errno : r;
}

/* Over what virtiofsd serves, which is none of its business. The guest's memory is a
 * file in it. */
static int root_enter(const struct machine_birth *b) {
	char options[64];
	snprintf(options, sizeof(options), "mode=0755,size=%um", b->config->memory_mb + SPARE_MB);
	if (mount("uml", b->shared, "tmpfs", MS_NOSUID | MS_NODEV, options) < 0 || chdir(b->shared) < 0)
		return -errno;
	int r = root_fill(b);
	return r < 0 || sys_pivot_root(".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0
		   ? (r < 0 ? r : -errno)
		   : 0;
}

/* --- the process --- */

static void uml_arguments(const struct machine_birth *b, struct arguments *a) {
	arguments_add(a, "linux");
	arguments_add(a, "mem=%uM", b->config->memory_mb);
	arguments_add_all(a, (const char *const[]){ "initrd=/initrd", "uml_dir=/tmp", "umid=guest", "con=null",
						    "con0=null,fd:1", "ssl=null", NULL });
	arguments_add(a, "ssl0=fd:%d", b->agent);
	/* 26: a file system, by virtio's numbers */
	arguments_add(a, "virtio_uml.device=/" FRONT ":26");
	for (size_t i = 0; i < b->network->n_links; i++)
		arguments_add(a, "vec%zu:transport=fd,fd=%d,mac=%s,vec=0", i, b->network->taps[i],
			      b->network->links[i].hwaddr);
	arguments_add(a, MACHINE_LINE "/dev/ttyS0");
	arguments_add(a, "%s", b->config->parameters);
}

static int prepare(const struct machine_birth *b) {
	const struct rlimit none = { 0, 0 };
	int r = unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS) < 0 ? -errno : root_enter(b);
	if (r == 0)
		r = setrlimit(RLIMIT_CORE, &none) < 0 ? -errno : machine_user(b->config, NULL, 0);
	/* Its memory begins where its program ends, and what a random gap takes
	 * there would be the guest's. */
	return r == 0 && personality(ADDR_NO_RANDOMIZE) < 0 ? -errno : r;
}

static _Noreturn void uml_body(const struct machine_birth *b, int relay) {
	struct arguments a = { .n = 0 };
	struct fault fault;
	uml_arguments(b, &a);
	int r = a.failed ? -ENOMEM : prepare(b);
	machine_child_begin(relay, b->console);
	for (size_t i = 0; i < b->network->n_links; i++)
		machine_stay_open(b->network->taps[i]);
	machine_stay_open(b->agent);
	if (r == 0)
		r = calls_restrict(calls, ARRAY_SIZE(calls), &fault);
	/* Its name leads nowhere: a guest that starts again ends. */
	if (r == 0 && execve(PROGRAM, a.list, machine_environment) < 0)
		r = -errno;
	machine_child_fail("start user-mode Linux", -r);
}

static int uml_check(const struct boot_vm *c, struct fault *fault) {
	return machine_file_check("vm_uml", c->uml, X_OK, fault);
}

static int uml_start(const struct machine_birth *b, struct vm_machine *m, struct fault *fault) {
	CLEANUP_FD int relay = (int)syscall(SYS_pidfd_open, getpid(), 0);
	char front[PATH_MAX + sizeof(FRONT) + 1];
	pid_t pid = -1;
	snprintf(front, sizeof(front), "%s/" FRONT, b->folder);
	int r = machine_connect(b->folder, MACHINE_FILES, &m->back, fault);
	if (r == 0)
		r = machine_listen(b->folder, FRONT, &m->front, fault);
	if (r == 0 && (fcntl(m->back, F_SETFL, O_NONBLOCK) < 0 || chown(front, b->config->uid, b->config->gid) < 0))
		r = fault_errno(fault, errno, "give away \"%s\"", front);
	if (r == 0)
		r = machine_child_make(CLONE_NEWPID, &pid, &m->vmm, fault);
	if (r == 0 && pid == 0)
		uml_body(b, relay);
	return r;
}

#else

static int uml_check(const struct boot_vm *c, struct fault *fault) {
	return fault_set(fault, FAULT_FAILED_PRECONDITION, "vm_vmm: user-mode Linux is for x86-64");
}

static int uml_start(const struct machine_birth *b, struct vm_machine *m, struct fault *fault) {
	return uml_check(b->config, fault);
}

#endif

const struct vmm vmm_uml = {
	.name = "user-mode Linux",
	.announces = true,
	.check = uml_check,
	.start = uml_start,
};
