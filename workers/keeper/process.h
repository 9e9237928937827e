/*
 * Making a process of a container, from both sides of the clone.
 *
 *   keeper                                     child
 *   process_spawn ───────────── clone3 ──────▶ closes, namespaces, mounts, ...
 *     status socket, packets ◀──────────────── STATUS_WARNING*, STATUS_READY
 *     "go" ──────────────────────────────────▶ seccomp, execve
 *     end of file: it is the program now   ◀── (close-on-exec)
 *     or STATUS_FAULT, then it exits        ◀── with PROCESS_FAILED
 *
 * With a user namespace a copy of the keeper does what needs the host's rights,
 * enters it, clones the child as the keeper's, and ends: all that the child makes
 * belongs to that namespace from the beginning.
 *
 * The child is a copy of the keeper, which is small, and so may use the heap
 * and everything that the request decoded to. It never returns from its body.
 */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"
#include "workers/keeper/cgroup.h"
#include "workers/keeper/user.h"
#include "workers/keeper/userns.h"

#include <stdbool.h>
#include <stddef.h>

enum status_kind { STATUS_WARNING = 1, STATUS_READY, STATUS_FAULT, STATUS_TERMINAL, STATUS_PROCESS };

struct status {
	uint32_t kind;
	int32_t code; /* enum fault_code */
	int32_t pid;  /* with a pidfd: of who takes the sender's place; 0: nobody */
	union {
		char text[FAULT_TEXT_MAX];
		struct user_ids user; /* STATUS_READY, STATUS_PROCESS */
	};
};

/* What a container's life begins with when it fails before its program: the
 * exit code that the field uses for it. */
#define PROCESS_FAILED 128

struct spawn {
	uint64_t namespaces;	     /* CLONE_NEW* */
	int pid_namespace_of;	     /* pidfd; -1: the keeper's, or a new one by namespaces */
	const struct cgroup *cgroup; /* born in its v2 group, when it has one */
	const struct userns *userns; /* of the pod; NULL, or with fd -1: none */
	/* With a user namespace: runs in a copy of the keeper that the child will
	 * be a copy of, outside and with all capabilities. May be NULL. */
	int (*before)(void *ctx, struct fault *fault);
	void (*body)(void *ctx); /* runs in the child; must not return */
	void *ctx;
};

int process_spawn(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct fault *fault);
/* The keeper's end and the child's end of a status socket. */
int process_status_pair(int *ret_keeper, int *ret_child);
/* One packet: 1, 0 at the end of file, -EAGAIN, or a negative errno. *ret_fd is
 * the descriptor that came with it or -1. */
int process_status_receive(int fd, struct status *ret_status, int *ret_fd);
int process_go(int fd);

/* --- in the child --- */

/* What it becomes. */
struct become {
	const Grpc__Process *process;
	char **args; /* n_args of them; those of process unless an exec's */
	size_t n_args;
	const struct user_ids *user; /* NULL: resolve in the root */
	const void *seccomp;	     /* struct sock_filter[] */
	size_t seccomp_size;
	uint32_t seccomp_flags;
	int stdio[3]; /* -1: /dev/null */
	int status;
	bool wait;	    /* for process_go, after STATUS_READY */
	bool early;	    /* a program that isn't there is said before that */
	bool strict_groups; /* see user_resolve */
	bool scored;	    /* has its oom score already */
	bool added;	    /* to a container, whose first process has its working directory made */
};

/* Sends the fault and exits. */
_Noreturn void become_failed(int status, const struct fault *fault);
void become_warn(int status, const char *format, ...) PRINTF(2, 3);
/* With fd; false when nobody is there to read it. */
bool become_send(int status, const struct status *s, size_t size, int fd);
void become_send_terminal(int status, int terminal);
/* The first steps, while /proc is still the host's: session, signals, oom
 * score, the security module's label. */
int become_prepare(const struct become *b, struct fault *fault);
/* Says so; comes back when it is to go on. */
void become_ready(const struct become *b, const struct user_ids *user);
/* The last steps, inside the root; doesn't come back. */
_Noreturn void become_program(struct become *b);
/* Closes everything above 2 but these n descriptors (-1 is ignored). */
void become_close_others(const int *keep, size_t n);
