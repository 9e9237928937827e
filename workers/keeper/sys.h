/* System calls that the C library of the oldest supported system has no
 * function for. Results are those of the raw calls: -1 and errno. */
#pragma once

#include "base/macros.h"
#include "loop/loop.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static inline pid_t sys_clone3(struct clone_args *args) {
	pid_t pid = (pid_t)syscall(SYS_clone3, args, sizeof(*args));
	if (pid == 0)
		loop_forked();
	return pid;
}

static inline int sys_pivot_root(const char *new_root, const char *put_old) {
	return (int)syscall(SYS_pivot_root, new_root, put_old);
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags) {
	return (int)syscall(SYS_close_range, first, last, flags);
}

static inline int sys_pidfd_send_signal(int pidfd, int sig) {
	return (int)syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
}
