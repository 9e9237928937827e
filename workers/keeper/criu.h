/*
 * CRIU's command line, which is all that we know of it. It runs as a child of
 * the keeper and so in the pod's namespaces: those that it shares with the
 * container it neither saves nor makes.
 *
 * It stops the container's processes by ptrace and not by the freezer: should it
 * be killed, the kernel lets them go. Those of a cut (cut.h), or that a client has
 * frozen, criu thaws when it has stopped them, and freezes them again at its end. A
 * keeper that is killed doesn't take it along; it ends by itself and lets the
 * container go on.
 *
 *   criu                       its action script (the keeper's own image)
 *   processes stopped, saved
 *   post-dump ───────────────▶ says so into the gate
 *                              waits for the word to go on (enum GateWord
 *                              in proto/internal), the gate's end, or the time
 *   lets them go on ◀───────── exit status
 */
#pragma once

#include "base/fault.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct criu_dump {
	const char *program;
	const char *folder; /* for its log, with CRIU_IMAGES in it */
	pid_t pid;	    /* the container's first process */
	int shm;	    /* the pod's /dev/shm; -1: the host's */
	int gate, held;	    /* held stays open until criu has ended */
	uint64_t timeout_ns;
	const char *freezer; /* of processes that are frozen; NULL */
};

#define CRIU_IMAGES "checkpoint"
#define CRIU_ROOT "root"

struct criu_restore {
	const char *program;
	const char *folder; /* for its log and the number of the first process */
	const char *root;   /* where the container's root is mounted, with all that comes from outside */
	int images, held;
	int shm;
	pid_t host;	     /* whose mounts are the host's */
	int stdio[3];	     /* -1: none */
	uint64_t numbers[3]; /* of the pipes that the streams were; 0: none */
};

int criu_check(const char *program, struct fault *fault);

/* The body of a child. */
void criu_dump(void *dump);
/* In a mount namespace with the root. Waits for criu; the processes that it has
 * made are left to the next subreaper. */
int criu_restore(const struct criu_restore *c, pid_t *ret_pid, int *ret_pidfd, struct fault *fault);
/* Why it has failed, from its log in the folder. */
int criu_failure(int folder, const siginfo_t *end, struct fault *fault);

/* In main: is this the action script? Then that's all that it is. */
bool criu_calls(void);
int criu_called(void);
