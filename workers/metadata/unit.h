/*
 * The systemd cgroup driver: each pod's own processes and each container are a
 * scope, in the slice that the client names or, when it names none, in one that
 * is made for the pod.
 *
 * A container's process is made and waits; then systemd is told of it; then it
 * goes. With the cgroupfs driver nothing here does anything: the steps go on at
 * once.
 *
 * Crash: systemd's units follow the records whenever a keeper is another, and
 * when this worker or the systemd worker starts or finds systemd again.
 */
#pragma once

#include "workers/metadata/lifecycle.h"

bool units_used(const struct metadata *m);

/* Whether it is of the form that the driver takes; empty is. */
int unit_parent_check(const struct metadata *m, const char *parent, struct fault *fault) NODISCARD;
/* Where the pod's control groups are to be, in the arena. */
int unit_place_pod(const struct metadata *m, const struct sandbox *s, struct arena *a, Bulkhead__SandboxStartRequest *q,
		   struct fault *fault) NODISCARD;
int unit_place_container(const struct metadata *m, const struct container *c, struct arena *a, Grpc__Spec *spec,
			 struct fault *fault) NODISCARD;

/* Steps of operations; each ends with op_next or op_fail. pid is of the host. */
void unit_step_pod(struct op *op, const struct sandbox *s);
void unit_step_container(struct op *op, const struct container *c, int32_t pid);
void unit_step_update_container(struct op *op, const struct container *c,
				const Runtime__V1__LinuxContainerResources *limits);
void unit_step_update_pod(struct op *op, const struct sandbox *s, const Runtime__V1__LinuxContainerResources *limits);

/* The sandbox's keeper as somebody has just seen it. */
void unit_keeper_seen(struct metadata *m, struct sandbox *s, int32_t pid);
/* systemd is there, or there again: what has no unit gets one, and slices of
 * pods that are gone end. */
void units_compare(struct metadata *m);
/* Whether systemd can be asked; else *ret_why says why not. */
bool units_ready(const struct metadata *m, const char **ret_why);

/* What unit_stop needs for a pod; for sweep.h. */
void unit_stop_pod_send(struct metadata *m, const char *id, msg_done_fn done, void *ctx);
void unit_stop_container_send(struct metadata *m, const char *id, msg_done_fn done, void *ctx);
