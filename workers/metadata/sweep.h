/*
 * Removes what has no record any more, in the background and for as long as it
 * takes: a failure is logged and tried again after 1, 2, 4 ... 60 seconds. A
 * restart needs no memory of it, because it finds the same things again.
 */
#pragma once

#include "msg/msg.h"

struct metadata;
struct container;

/* A pod's processes and network. */
void sweep_sandbox(struct metadata *m, const char *id);
/* A pod's units of systemd's, with that cgroup driver. */
void sweep_unit_pod(struct metadata *m, const char *id);
/* The same of a container that has ended. systemd sees the end of a scope's last
 * process by itself, unless the keeper removes the control group first. */
void sweep_unit_container(struct metadata *m, const char *id);
/* One process tree of a pod that stays. */
void sweep_task(struct metadata *m, const char *sandbox_id, const char *container_id);
/* A process beside a container's first, by SIGKILL if it still runs. */
void sweep_process(struct metadata *m, const char *sandbox_id, const char *container_id, const char *exec_id);
/* A writable snapshot. */
void sweep_snapshot(struct metadata *m, const char *key);
/* A container that has left the lists (model_drop_container): its task when it
 * may have one in that sandbox (NULL: it has none), its snapshot, then itself. */
void sweep_container(struct metadata *m, struct container *c, const char *task_sandbox_id);

/* True when pods or processes are just being removed: the request is handled
 * again when one of them is, or didn't go at the first attempt. For what may
 * want a name or a control group that these still have. */
bool sweep_gate(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)) NODISCARD;
