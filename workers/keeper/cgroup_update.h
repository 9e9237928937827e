/* New limits for a group whose processes run. */
#pragma once

#include "workers/keeper/cgroup.h"

/* Writes what resources says; a hierarchy that the group had no folder in gets
 * one, and its processes move there. What the machine has no controller for is
 * a warning, anything else that fails is an error; what was set before it
 * stays. */
int cgroup_update(struct cgroup *c, const Grpc__LinuxResources *resources, cgroup_warn_fn warn, void *ctx,
		  struct fault *fault) NODISCARD;
/* A folder of the group for the controllers of resources, its processes in it. */
int cgroup_ensure(struct cgroup *c, const Grpc__LinuxResources *resources, struct fault *fault) NODISCARD;

/* fn for each process in the group and below it, as far as the tracking
 * hierarchy knows; at most max. Returns how many. */
size_t cgroup_each_process(const struct cgroup *c, size_t max, void (*fn)(void *ctx, pid_t pid), void *ctx);
