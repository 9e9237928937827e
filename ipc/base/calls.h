/*
 * The last step into a jail: from here on a process may make the system calls of
 * a list, and is killed at any other. For processes that read what others say and
 * have no worker's privilege row; the kernel's log names the call that was refused.
 */
#pragma once

#include "base/fault.h"

#include <sys/syscall.h>

#if defined(__SANITIZE_ADDRESS__)
#define CALLS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CALLS_SANITIZED 1
#endif
#endif

#ifdef CALLS_SANITIZED
#define CALLS_OF_SANITIZER                                                                                      \
	, SYS_sigaltstack, SYS_rt_sigaction, SYS_getpid, SYS_gettid, SYS_tgkill, SYS_readlink, SYS_sched_yield, \
	    SYS_prctl
#else
#define CALLS_OF_SANITIZER
#endif

/* What every list ends with: memory, the end, and what the C library needs. */
#define CALLS_OF_LIBC                                                                                             \
	SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_mprotect, SYS_futex, SYS_getrandom, SYS_exit, \
	    SYS_exit_group, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall,                            \
	    SYS_clock_gettime CALLS_OF_SANITIZER

#define CALLS_MAX 255

/* The most frequent calls first: the filter is a list. At most CALLS_MAX of them.
 * There is no way back, for what the process executes neither. */
int calls_restrict(const unsigned *calls, size_t n, struct fault *fault) NODISCARD;
