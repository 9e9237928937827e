/*
 * Numbers of system calls by name. The only file that knows libseccomp, and
 * all that it is used for: its tables of every architecture. What it is too
 * old to know stands below; since Linux 5.1 new calls have the same number
 * everywhere.
 */
#include "profile.h"

#include <seccomp.h>
#include <string.h>

#define X32_BIT 0x40000000

static const uint32_t library_arch[SECCOMP_ARCH_COUNT] = {
	[SECCOMP_ARCH_X86_64] = SCMP_ARCH_X86_64, [SECCOMP_ARCH_X86] = SCMP_ARCH_X86,
	[SECCOMP_ARCH_X32] = SCMP_ARCH_X32,	  [SECCOMP_ARCH_AARCH64] = SCMP_ARCH_AARCH64,
	[SECCOMP_ARCH_ARM] = SCMP_ARCH_ARM,
};

static const struct {
	const char *name;
	int number;
} newer[] = {
	{ "futex_waitv", 449 },	      { "set_mempolicy_home_node", 450 },
	{ "cachestat", 451 },	      { "fchmodat2", 452 },
	{ "map_shadow_stack", 453 },  { "futex_wake", 454 },
	{ "futex_wait", 455 },	      { "futex_requeue", 456 },
	{ "statmount", 457 },	      { "listmount", 458 },
	{ "lsm_get_self_attr", 459 }, { "lsm_set_self_attr", 460 },
	{ "lsm_list_modules", 461 },  { "mseal", 462 },
	{ "setxattrat", 463 },	      { "getxattrat", 464 },
	{ "listxattrat", 465 },	      { "removexattrat", 466 },
	{ "open_tree_attr", 467 },    { "file_getattr", 468 },
	{ "file_setattr", 469 },
};

/* libseccomp gives i386's calls that once were multiplexed a number of its
 * own; these are the kernel's. */
static const struct {
	const char *name;
	int number;
} x86_direct[] = {
	{ "socket", 359 },	{ "socketpair", 360 },	{ "bind", 361 },       { "connect", 362 },
	{ "listen", 363 },	{ "accept4", 364 },	{ "getsockopt", 365 }, { "setsockopt", 366 },
	{ "getsockname", 367 }, { "getpeername", 368 }, { "sendto", 369 },     { "sendmsg", 370 },
	{ "recvfrom", 371 },	{ "recvmsg", 372 },	{ "shutdown", 373 },   { "semget", 393 },
	{ "semctl", 394 },	{ "shmget", 395 },	{ "shmctl", 396 },     { "shmat", 397 },
	{ "shmdt", 398 },	{ "msgget", 399 },	{ "msgsnd", 400 },     { "msgrcv", 401 },
	{ "msgctl", 402 },	{ "recvmmsg", 337 },	{ "sendmmsg", 345 },
};

int seccomp_number(enum seccomp_arch arch, const char *name) {
	int number = seccomp_syscall_resolve_name_arch(library_arch[arch], name);
	if (number >= 0)
		return number;
	for (size_t i = 0; arch == SECCOMP_ARCH_X86 && i < ARRAY_SIZE(x86_direct); i++)
		if (strcmp(name, x86_direct[i].name) == 0)
			return x86_direct[i].number;
	for (size_t i = 0; i < ARRAY_SIZE(newer); i++)
		if (strcmp(name, newer[i].name) == 0)
			return arch == SECCOMP_ARCH_X32 ? newer[i].number | X32_BIT : newer[i].number;
	return -1;
}
