/* New limits for a group whose processes run. */
#pragma once

#include "workers/keeper/cgroup.h"

/* What files of one group said before an update; starts zeroed. */
#define CGROUP_UNDO_MAX 64

struct cgroup_undo {
	struct cgroup_old {
		int h;
		char file[64];
		char value[128];
	} list[CGROUP_UNDO_MAX];
	size_t n;
};

/* To be called before the file is written. */
void cgroup_undo_note(struct cgroup_undo *u, const struct cgroup *c, int h, const char *file);
void cgroup_undo(const struct cgroup_undo *u, const struct cgroup *c);

/* Writes what resources says; a hierarchy that the group had no folder in gets
 * one, and its processes move there. What the machine has no controller for is
 * a warning, anything else that fails is an error; what it replaced
 * is in undo, for the caller to take back. */
int cgroup_update(struct cgroup *c, const Grpc__LinuxResources *resources, struct cgroup_undo *undo,
		  cgroup_warn_fn warn, void *ctx, struct fault *fault) NODISCARD;
/* A folder of the group for the controllers of resources, its processes in it. */
int cgroup_ensure(struct cgroup *c, const Grpc__LinuxResources *resources, struct fault *fault) NODISCARD;

/* Somebody else (systemd) has made the group its own, and may have moved the
 * process: takes up what folders it has now, and moves the process back. */
int cgroup_bring(struct cgroup *c, pid_t pid, struct fault *fault) NODISCARD;

/* fn for each process in the group and below it, as far as the tracking
 * hierarchy knows; at most max. Returns how many. */
size_t cgroup_each_process(const struct cgroup *c, size_t max, void (*fn)(void *ctx, pid_t pid), void *ctx);
