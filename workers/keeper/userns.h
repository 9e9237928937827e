/*
 * A pod's user namespace, which owns its network, IPC and UTS namespaces. The
 * keeper joins those but stays in the host's user namespace, where it has all
 * its capabilities; containers are born inside (process.c), and so what they
 * make (mounts, pid and cgroup namespaces) belongs to the pod's too.
 */
#pragma once

#include "base/fault.h"
#include "internal/keeper.pb-c.h"

#include <stdbool.h>
#include <sys/types.h>

struct userns {
	int fd; /* -1: the host's */
	/* who is root in it */
	uid_t uid;
	gid_t gid;
};
#define USERNS_NONE \
	{ .fd = -1 }

/* One mapping each, of container id 0 on. */
int userns_check(const Bulkhead__SandboxStartRequest *s, struct fault *fault);
/* Makes it with the other namespaces (CLONE_NEW*), which the caller is then in. */
int userns_enter_new(const Bulkhead__SandboxStartRequest *s, int flags, struct userns *ret_userns, struct fault *fault);
/* The one that owns the caller's network namespace, after an adoption. */
int userns_find(int *ret_fd);
/* Becomes root of the user namespace that the caller has entered. */
int userns_become_root(struct fault *fault);
