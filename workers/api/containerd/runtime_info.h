/* What a runtime is and does, as containerd's shims say of themselves with -info. */
#pragma once

#include "workers/api/containerd/containerd.h"

#include "containerd/types.pb-c.h"

/* Of what runs when the request names a runtime that isn't refused. NULL: out of
 * memory. */
Containerd__Types__RuntimeInfo *runtime_info(struct grpc_translation *t,
					     const Containerd__Types__RuntimeRequest *request);
