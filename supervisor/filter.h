/*
 * System call filters, put together from named groups. libseccomp is known
 * here only.
 *
 * A call that no group of a row names fails with EPERM and is logged by the
 * kernel; a call that only an attacker makes ends the process.
 */
#pragma once

#include "base/fault.h"

#include <linux/filter.h>
#include <stdio.h>

enum syscall_group {
	SYSCALLS_BASE = 1 << 0,	   /* what any process does: time, signals, locks, open descriptors */
	SYSCALLS_MEMORY = 1 << 1,  /* never executable */
	SYSCALLS_SOCKETS = 1 << 2, /* use of sockets that were given to it */
	SYSCALLS_FILES = 1 << 3,   /* by path */
	SYSCALLS_OWNERS = 1 << 4,  /* owners, modes, attributes, device nodes */
	SYSCALLS_INET = 1 << 5,	   /* connect by IPv4 and IPv6 */
	SYSCALLS_UNIX = 1 << 6,	   /* connect to and listen on local sockets */
	SYSCALLS_THREADS = 1 << 7,
	SYSCALLS_SPAWN = 1 << 8, /* child processes, and what confines them further */
	SYSCALLS_MOUNTS = 1 << 9,
	SYSCALLS_TERMINALS = 1 << 10, /* the size of those that were given to it */
	SYSCALLS_TOOLS = 1 << 11,     /* other programs */
	SYSCALLS_MACHINE = 1 << 12,   /* clock, swap, kernel modules, entropy, network */
};
#define SYSCALL_GROUPS 13

/* "base"; NULL beyond the last. */
const char *syscall_group_name(unsigned bit);
/* Compiles for this machine's architecture. */
int filter_compile(unsigned groups, struct sock_filter *program, size_t room, uint32_t *ret_n,
		   struct fault *fault) NODISCARD;
/* The calls that the groups allow, for people; "*" marks those whose arguments
 * are checked. */
void filter_print(unsigned groups, FILE *to);
