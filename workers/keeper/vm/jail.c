/*
 * Stand-ins have nothing to say but what their guest process does, and the relay
 * reads what the guest says: both live on the descriptors that they have.
 */
#include "workers/keeper/vm/vm.h"

#include "boot/boot.h"

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <errno.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "name this architecture's AUDIT_ARCH_ here"
#endif

#ifdef SANITIZED
#define CALLS_SANITIZER \
	SYS_sigaltstack, SYS_rt_sigaction, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_readlink, SYS_sched_yield,
#else
#define CALLS_SANITIZER
#endif
/* Packets, memory, the end. */
#define CALLS_ALL                                                                                                      \
	SYS_read, SYS_write, SYS_recvmsg, SYS_sendmsg, SYS_ppoll, SYS_close, SYS_ioctl, SYS_brk, SYS_mmap, SYS_munmap, \
	    SYS_mremap, SYS_madvise, SYS_mprotect, SYS_futex, SYS_getrandom, SYS_exit, SYS_exit_group,                 \
	    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_clock_gettime, SYS_fstat, SYS_newfstatat,   \
	    CALLS_SANITIZER SYS_recvfrom, SYS_sendto

#if defined(__x86_64__)
#define CALLS_OLD SYS_poll,
#else
#define CALLS_OLD
#endif

static const unsigned stand_in_calls[] = { CALLS_OLD CALLS_ALL };
static const unsigned relay_calls[] = {
	SYS_io_uring_enter, SYS_getsockopt,	   SYS_fcntl,	       SYS_waitid, SYS_readv,
	SYS_writev,	    SYS_pidfd_send_signal, CALLS_OLD CALLS_ALL
};
_Static_assert(sizeof(relay_calls) / sizeof(*relay_calls) < 256, "the filter's jumps");

static const struct {
	const unsigned *calls;
	size_t n_calls;
} jails[] = {
	[VM_JAIL_STAND_IN] = { stand_in_calls, ARRAY_SIZE(stand_in_calls) },
	[VM_JAIL_RELAY] = { relay_calls, ARRAY_SIZE(relay_calls) },
};

static int identity_take(const struct boot_vm *c, struct fault *fault) {
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	if (setgroups(0, NULL) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 || setresuid(c->uid, c->uid, c->uid) < 0)
		return fault_errno(fault, errno, "become uid %u gid %u", c->uid, c->gid);
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return fault_errno(fault, errno, "drop capabilities");
	return 0;
}

static int calls_restrict(const unsigned *calls, size_t n_calls, struct fault *fault) {
	struct sock_filter f[256 + 8];
	unsigned short n = 0;
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < n_calls; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], (uint8_t)(n_calls - i), 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = { .len = n, .filter = f };
	/* LOG: what is refused shows in the kernel's log. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &program) < 0)
		return fault_errno(fault, errno, "restrict the system calls");
	return 0;
}

int vm_jail_enter(enum vm_jail kind, const struct boot_vm *config, struct fault *fault) {
	struct rlimit none = { 0, 0 };
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return fault_errno(fault, errno, "set the limits");
	int r = identity_take(config, fault);
	return r < 0 ? r : calls_restrict(jails[kind].calls, jails[kind].n_calls, fault);
}
