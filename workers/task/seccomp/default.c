/*
 * The default profile: what a container may ask of the kernel unless somebody
 * said otherwise. In effect the one that Docker and containerd have: an
 * allow-list, and the privileged calls as far as the container's capabilities
 * would let them work anyway.
 *
 * Refused on purpose, though many kernels offer it to everybody: io_uring
 * (outside of seccomp's sight), userfaultfd, keyrings, kexec, modules,
 * AF_ALG and AF_VSOCK sockets, new user namespaces.
 *
 * Names that an architecture doesn't have are skipped by the compiler.
 */
#include "profile.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/socket.h>

#define INT_MASK 0xffffffffu
#define CAP(c) (UINT64_C(1) << CAP_##c)

/* Space-separated, so that a group reads as a paragraph. */
static const char *const allowed[] = {
	/* files by descriptor */
	"read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek _llseek close close_range "
	"dup dup2 dup3 fcntl fcntl64 ioctl pipe pipe2 sendfile sendfile64 splice tee vmsplice copy_file_range "
	"readahead fadvise64 fadvise64_64 arm_fadvise64_64 fallocate ftruncate ftruncate64 cachestat",
	"fsync fdatasync sync syncfs sync_file_range sync_file_range2 arm_sync_file_range flock",
	/* files by name */
	"open openat openat2 creat access faccessat faccessat2 chdir fchdir getcwd mkdir mkdirat mknod mknodat "
	"rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat readlink readlinkat "
	"truncate truncate64 getdents getdents64 umask name_to_handle_at",
	"stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx statfs statfs64 fstatfs fstatfs64 "
	"statmount listmount",
	"chmod fchmod fchmodat fchmodat2 chown chown32 lchown lchown32 fchown fchown32 fchownat "
	"utime utimes utimensat utimensat_time64 futimesat",
	"getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat "
	"listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat "
	"file_getattr file_setattr",
	"inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
	/* memory */
	"brk mmap mmap2 munmap mprotect mremap madvise msync mincore mlock mlock2 mlockall munlock munlockall "
	"mseal map_shadow_stack remap_file_pages memfd_create memfd_secret membarrier "
	"pkey_alloc pkey_free pkey_mprotect process_mrelease",
	/* processes and threads */
	"fork vfork execve execveat exit exit_group wait4 waitid waitpid gettid getpid getppid "
	"set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area arch_prctl prctl rseq "
	"setpgid getpgid getpgrp setsid getsid pidfd_open pidfd_send_signal",
	"kill tkill tgkill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn "
	"rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signal sigaction "
	"sigpending sigprocmask sigreturn sigsuspend signalfd signalfd4 restart_syscall",
	"futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue",
	"sched_yield sched_setparam sched_getparam sched_setscheduler sched_getscheduler sched_setattr "
	"sched_getattr sched_setaffinity sched_getaffinity sched_get_priority_max sched_get_priority_min "
	"sched_rr_get_interval sched_rr_get_interval_time64 getcpu getpriority setpriority "
	"ioprio_get ioprio_set",
	"getrlimit ugetrlimit setrlimit prlimit64 getrusage times sysinfo uname",
	/* identity */
	"getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid "
	"getresgid32 getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid "
	"setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 "
	"setgroups setgroups32 capget capset getrandom",
	"seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
	/* time */
	"time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep "
	"clock_nanosleep_time64 nanosleep adjtimex clock_adjtime clock_adjtime64 alarm getitimer setitimer "
	"timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 "
	"timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
	/* waiting for several things */
	"poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 epoll_ctl "
	"epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2",
	"io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64",
	/* sockets and System V's and POSIX's queues; socket(2) has rules below */
	"socketpair bind listen accept accept4 connect getsockname getpeername getsockopt setsockopt shutdown "
	"send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
	"ipc semget semctl semop semtimedop semtimedop_time64 shmget shmctl shmat shmdt msgget msgctl msgsnd msgrcv",
	"mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive "
	"mq_timedreceive_time64",
	/* tracing one's own; since Linux 4.8 a tracer can't get around a filter */
	"ptrace process_vm_readv process_vm_writev",
#if defined(__x86_64__)
	"modify_ldt",
#elif defined(__aarch64__)
	"breakpoint cacheflush set_tls",
#endif
};

/* What a capability opens; the calls check more precisely themselves. */
static const struct {
	uint64_t any; /* one of these is enough */
	const char *names;
} privileged[] = {
	{ .any = CAP(DAC_READ_SEARCH), .names = "open_by_handle_at" },
	{ .any = CAP(SYS_ADMIN),
	  .names = "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
		   "move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd setdomainname sethostname "
		   "setns syslog umount umount2 unshare" },
	{ .any = CAP(SYS_BOOT), .names = "reboot" },
	{ .any = CAP(SYS_CHROOT), .names = "chroot" },
	{ .any = CAP(SYS_MODULE), .names = "delete_module init_module finit_module" },
	{ .any = CAP(SYS_PACCT), .names = "acct" },
	{ .any = CAP(SYS_PTRACE), .names = "kcmp pidfd_getfd process_madvise" },
	{ .any = CAP(SYS_RAWIO), .names = "iopl ioperm" },
	{ .any = CAP(SYS_TIME), .names = "settimeofday stime clock_settime clock_settime64" },
	{ .any = CAP(SYS_TTY_CONFIG), .names = "vhangup" },
	{ .any = CAP(SYS_NICE), .names = "get_mempolicy mbind set_mempolicy set_mempolicy_home_node" },
	{ .any = CAP(SYSLOG), .names = "syslog" },
	{ .any = CAP(BPF), .names = "bpf" },
	{ .any = CAP(PERFMON), .names = "perf_event_open" },
};

/* Persona values that change nothing of the address space's protection. */
static const uint32_t personas[] = {
	PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, 0xffffffff, /* asks for the present one */
};

#define SOCKETCALL_SOCKET 1 /* socketcall(2)'s first argument for socket(2) */

#define NEW_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP)

uint64_t profile_default_capabilities(void) {
	uint64_t all = 0;
	for (size_t i = 0; i < ARRAY_SIZE(privileged); i++)
		all |= privileged[i].any;
	return all;
}

static void add_names(struct seccomp_profile *p, const char *names) {
	char name[64];
	for (const char *at = names; *at;) {
		size_t length = strcspn(at, " ");
		if (length < sizeof(name)) {
			memcpy(name, at, length);
			name[length] = '\0';
			profile_add(p, name, SECCOMP_RET_ALLOW, NULL, 0);
		}
		at += length + strspn(at + length, " ");
	}
}

static void add_int_rule(struct seccomp_profile *p, const char *name, uint32_t action, enum seccomp_op op,
			 uint32_t value) {
	struct seccomp_condition c = { .op = op, .mask = INT_MASK, .value = value };
	profile_add(p, name, action, &c, 1);
}

/* Every family but these two. On i386 the old multiplexed call hides the
 * family behind a pointer; programs of the last ten years don't use it. */
static void add_sockets(struct seccomp_profile *p) {
	add_int_rule(p, "socket", SECCOMP_RET_ALLOW, SECCOMP_OP_LT, AF_ALG);
	add_int_rule(p, "socket", SECCOMP_RET_ALLOW, SECCOMP_OP_EQ, AF_NFC);
	add_int_rule(p, "socket", SECCOMP_RET_ALLOW, SECCOMP_OP_GT, AF_VSOCK);
	add_int_rule(p, "socketcall", SECCOMP_RET_ERRNO | ENOSYS, SECCOMP_OP_EQ, SOCKETCALL_SOCKET);
	add_int_rule(p, "socketcall", SECCOMP_RET_ALLOW, SECCOMP_OP_NE, SOCKETCALL_SOCKET);
}

/* clone3 has its flags behind a pointer: ENOSYS makes libc take clone. */
static void add_clone(struct seccomp_profile *p) {
	struct seccomp_condition c = { .op = SECCOMP_OP_EQ, .mask = NEW_NAMESPACES, .value = 0 };
	profile_add(p, "clone", SECCOMP_RET_ALLOW, &c, 1);
	profile_add(p, "clone3", SECCOMP_RET_ERRNO | ENOSYS, NULL, 0);
}

void profile_default(struct seccomp_profile *p, uint64_t capabilities) {
	p->default_action = SECCOMP_RET_ERRNO | EPERM;
	p->archs = profile_native_archs();
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
		add_names(p, allowed[i]);
	for (size_t i = 0; i < ARRAY_SIZE(personas); i++)
		add_int_rule(p, "personality", SECCOMP_RET_ALLOW, SECCOMP_OP_EQ, personas[i]);
	add_sockets(p);
	for (size_t i = 0; i < ARRAY_SIZE(privileged); i++)
		if (capabilities & privileged[i].any)
			add_names(p, privileged[i].names);
	if (!(capabilities & CAP(SYS_ADMIN)))
		add_clone(p);
}
