/*
 * The groups are one table of rules {group, call, condition}. Names that this
 * architecture or libseccomp doesn't have are left out: a call that can't be
 * named can't be allowed.
 */
#include "supervisor/filter.h"

#include "base/fd.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <linux/netlink.h>
#include <linux/random.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static const char *const group_names[SYSCALL_GROUPS] = { "base",      "memory", "sockets", "files", "owners",
							 "inet",      "unix",	"threads", "spawn", "mounts",
							 "terminals", "tools",	"machine" };

/* Hostile from all others. */
#define MACHINE_CALLS "settimeofday clock_settime swapon init_module finit_module"

/* Calls whose arguments don't matter, by group. */
static const struct {
	unsigned group;
	const char *names;
} groups_plain[] = {
	{ SYSCALLS_BASE,
	  "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range fstat "
	  "dup dup2 dup3 fcntl pipe pipe2 eventfd2 poll ppoll select pselect6 memfd_create ftruncate "
	  "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getrandom "
	  "getpid getppid gettid getuid geteuid getgid getegid getresuid getresgid getgroups "
	  "exit exit_group rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending sigaltstack restart_syscall "
	  "futex set_robust_list get_robust_list set_tid_address rseq membarrier arch_prctl "
	  "sched_yield sched_getaffinity getcpu getrusage times uname sysinfo getrlimit io_uring_enter" },
	{ SYSCALLS_MEMORY, "munmap mremap madvise brk msync mincore" },
	{ SYSCALLS_SOCKETS,
	  "recvmsg recvfrom recvmmsg sendmsg sendto sendmmsg accept accept4 shutdown getsockopt setsockopt "
	  "getsockname getpeername" },
	{ SYSCALLS_FILES,
	  "open openat openat2 creat access faccessat faccessat2 stat lstat newfstatat statx statfs fstatfs "
	  "readlink readlinkat getdents getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 "
	  "link linkat symlink symlinkat truncate fallocate fsync fdatasync syncfs sync_file_range fadvise64 "
	  "flock chdir fchdir getcwd umask utimensat copy_file_range sendfile splice tee readahead chmod fchmod "
	  "fchmodat" },
	{ SYSCALLS_OWNERS,
	  "chown fchown lchown fchownat setfsuid setfsgid mknod mknodat setxattr lsetxattr fsetxattr getxattr "
	  "lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr" },
	{ SYSCALLS_INET, "connect" },
	{ SYSCALLS_UNIX, "connect bind listen" },
	{ SYSCALLS_THREADS, "sched_setaffinity sched_getparam sched_getscheduler" },
	/* No execve and no change of uid: children are copies that confine
	 * themselves further. */
	{ SYSCALLS_SPAWN,
	  "fork vfork wait4 waitid pidfd_open pidfd_send_signal setsid capget capset setrlimit prlimit64 seccomp "
	  "setpriority" },
	{ SYSCALLS_TERMINALS, "" },
	{ SYSCALLS_TOOLS, "execve mmap mprotect" },
	{ SYSCALLS_MACHINE, MACHINE_CALLS },
	{ SYSCALLS_MOUNTS, "mount umount2 pivot_root fsopen fsconfig fsmount open_tree move_mount mount_setattr" },
};

#define NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

/* Calls that are allowed with certain arguments only. */
static const struct {
	unsigned group;
	const char *name;
	struct scmp_arg_cmp condition;
} groups_checked[] = {
	{ SYSCALLS_BASE, "prctl", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_NAME } },
	{ SYSCALLS_BASE, "prctl", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_CAPBSET_READ } },
	/* How the C library asks about an open descriptor. */
	{ SYSCALLS_BASE, "newfstatat", { .arg = 3, .op = SCMP_CMP_EQ, .datum_a = AT_EMPTY_PATH } },
	/* Reading a limit, not setting it. */
	{ SYSCALLS_BASE, "prlimit64", { .arg = 2, .op = SCMP_CMP_EQ, .datum_a = 0 } },
	{ SYSCALLS_MEMORY, "mmap", { .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0 } },
	{ SYSCALLS_MEMORY, "mprotect", { .arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0 } },
	{ SYSCALLS_SOCKETS, "socketpair", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_UNIX } },
	{ SYSCALLS_INET, "socket", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_INET } },
	{ SYSCALLS_INET, "socket", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_INET6 } },
	/* The C library's resolver asks how much is there. */
	{ SYSCALLS_INET, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = FIONREAD } },
	{ SYSCALLS_UNIX, "socket", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_UNIX } },
	{ SYSCALLS_TERMINALS, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = TIOCSWINSZ } },
	/* Copy-on-write instead of a copy. */
	{ SYSCALLS_OWNERS, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = FICLONE } },
	/* Where a file system puts folders; and what can't be removed while it is immutable. */
	{ SYSCALLS_OWNERS, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = FS_IOC_GETFLAGS } },
	{ SYSCALLS_OWNERS, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = FS_IOC_SETFLAGS } },
	{ SYSCALLS_TOOLS, "socket", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_INET } },
	{ SYSCALLS_TOOLS, "socket", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_INET6 } },
	{ SYSCALLS_MACHINE, "socket", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = AF_NETLINK } },
	{ SYSCALLS_MACHINE, "bind", { .arg = 2, .op = SCMP_CMP_EQ, .datum_a = sizeof(struct sockaddr_nl) } },
	{ SYSCALLS_MACHINE, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = RNDADDTOENTCNT } },
	{ SYSCALLS_MACHINE, "ioctl", { .arg = 1, .op = SCMP_CMP_EQ, .datum_a = RNDRESEEDCRNG } },
	{ SYSCALLS_SPAWN, "prctl", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_PDEATHSIG } },
	{ SYSCALLS_SPAWN, "prctl", { .arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_NO_NEW_PRIVS } },
	{ SYSCALLS_SPAWN, "clone", { .arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = NAMESPACES, .datum_b = 0 } },
	{ SYSCALLS_MOUNTS,
	  "unshare",
	  { .arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = ~(uint64_t)CLONE_NEWNS, .datum_b = 0 } },
	{ SYSCALLS_THREADS,
	  "clone",
	  { .arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = CLONE_THREAD, .datum_b = CLONE_THREAD } },
};

/* No worker has a use for these, and no library calls them by itself. */
static const char hostile[] = "ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp "
			      "kexec_load kexec_file_load delete_module bpf perf_event_open userfaultfd "
			      "add_key request_key keyctl reboot swapoff iopl ioperm acct quotactl open_by_handle_at "
			      "adjtimex clock_adjtime vhangup nfsservctl lookup_dcookie syslog";

const char *syscall_group_name(unsigned bit) {
	return bit < SYSCALL_GROUPS ? group_names[bit] : NULL;
}

/* --- compiling --- */

struct compilation {
	scmp_filter_ctx ctx;
	struct fault *fault;
};

static void compilation_end(struct compilation *c) {
	if (c->ctx)
		seccomp_release(c->ctx);
}

static int add(struct compilation *c, uint32_t action, const char *name, const struct scmp_arg_cmp *condition) {
	int number = seccomp_syscall_resolve_name(name);
	if (number == __NR_SCMP_ERROR)
		return 0;
	int r = seccomp_rule_add_array(c->ctx, action, number, condition ? 1 : 0, condition);
	/* EEXIST: two groups allow it. */
	if (r < 0 && r != -EEXIST)
		return fault_errno(c->fault, r, "seccomp: rule for %s", name);
	return 0;
}

/* Calls fn for each word of names. */
static int add_words(struct compilation *c, uint32_t action, const char *names) {
	char word[64];
	while (*names) {
		size_t n = strcspn(names, " ");
		if (n > 0 && n < sizeof(word)) {
			memcpy(word, names, n);
			word[n] = '\0';
			int r = add(c, action, word, NULL);
			if (r < 0)
				return r;
		}
		names += n + strspn(names + n, " ");
	}
	return 0;
}

static int add_groups(struct compilation *c, unsigned groups) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(groups_plain); i++)
		if (groups & groups_plain[i].group)
			r = add_words(c, SCMP_ACT_ALLOW, groups_plain[i].names);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(groups_checked); i++)
		if (groups & groups_checked[i].group)
			r = add(c, SCMP_ACT_ALLOW, groups_checked[i].name, &groups_checked[i].condition);
	/* clone3's flags lie in memory where no filter sees them; told that the
	 * kernel lacks it, the C library takes clone. */
	if (r == 0 && (groups & (SYSCALLS_THREADS | SYSCALLS_SPAWN)))
		r = add(c, SCMP_ACT_ERRNO(ENOSYS), "clone3", NULL);
	return r;
}

/* libseccomp hands its program out as a file only. */
static int export(struct compilation *c, struct sock_filter *program, size_t room, uint32_t *ret_n) {
	CLEANUP_FD int fd = memfd_create("bulkhead-filter", MFD_CLOEXEC);
	if (fd < 0)
		return fault_errno(c->fault, errno, "seccomp: memory file");
	int r = seccomp_export_bpf(c->ctx, fd);
	if (r < 0)
		return fault_errno(c->fault, r, "seccomp: export");
	ssize_t n = pread(fd, program, room * sizeof(*program), 0);
	if (n < 0)
		return fault_errno(c->fault, errno, "seccomp: read the program");
	if (lseek(fd, 0, SEEK_END) != n)
		return fault_set(c->fault, FAULT_INTERNAL, "seccomp: a program has more than %zu instructions", room);
	*ret_n = (uint32_t)((size_t)n / sizeof(*program));
	return 0;
}

int filter_compile(unsigned groups, struct sock_filter *program, size_t room, uint32_t *ret_n, struct fault *fault) {
	CLEANUP(compilation_end) struct compilation c = { .ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM)), .fault = fault };
	if (!c.ctx)
		return fault_errno(fault, ENOMEM, "seccomp");
	/* 2: a binary tree over the numbers instead of a list. */
	int r = seccomp_attr_set(c.ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = seccomp_attr_set(c.ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r < 0)
		return fault_errno(fault, r, "seccomp: set up");
	r = add_groups(&c, groups);
	if (r == 0)
		r = add_words(&c, SCMP_ACT_KILL_PROCESS, hostile);
	if (r == 0 && !(groups & SYSCALLS_MACHINE))
		r = add_words(&c, SCMP_ACT_KILL_PROCESS, MACHINE_CALLS);
	if (r < 0)
		return r;
	return export(&c, program, room, ret_n);
}

void filter_print(unsigned groups, FILE *to) {
	for (size_t i = 0; i < ARRAY_SIZE(groups_plain); i++) {
		if (!(groups & groups_plain[i].group))
			continue;
		fprintf(to, "%s", groups_plain[i].names);
		for (size_t j = 0; j < ARRAY_SIZE(groups_checked); j++)
			if (groups_checked[j].group == groups_plain[i].group)
				fprintf(to, " %s*", groups_checked[j].name);
		fputc('\n', to);
	}
}
