#include "base/calls.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "name this architecture's AUDIT_ARCH_ here"
#endif

/* A jump passes over so many instructions at most. */
_Static_assert(CALLS_MAX <= UINT8_MAX, "the filter's jumps");

static struct sock_filter load(size_t offset) {
	return (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
}

static struct sock_filter jump_if(uint32_t value, size_t over) {
	return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, (uint8_t)over, 0);
}

static struct sock_filter end(uint32_t verdict) {
	return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, verdict);
}

int calls_restrict(const unsigned *calls, size_t n_calls, struct fault *fault) {
	struct sock_filter f[CALLS_MAX + 6];
	unsigned short n = 0;
	if (n_calls > CALLS_MAX)
		return fault_errno(fault, E2BIG, "restrict the system calls");
	f[n++] = load(offsetof(struct seccomp_data, arch));
	f[n++] = jump_if(ARCH, 1);
	f[n++] = end(SECCOMP_RET_KILL_PROCESS);
	f[n++] = load(offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < n_calls; i++)
		f[n++] = jump_if(calls[i], n_calls - i);
	f[n++] = end(SECCOMP_RET_KILL_PROCESS);
	f[n++] = end(SECCOMP_RET_ALLOW);
	struct sock_fprog program = { .len = n, .filter = f };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &program) < 0)
		return fault_errno(fault, errno, "restrict the system calls");
	return 0;
}
