/*
 * Devices of the host that a container asks for by the annotations of its
 * specification (workers/metadata/spec/spec.h):
 *
 *   bulkhead.io/device/<n>   "<host path>\n<path in the container>\n<rwm>"
 *   bulkhead.io/privileged   "true": each node below the host's /dev
 *
 * Only the host knows what they are, so they are looked up here, in the
 * keeper, and become devices and device rules of the specification itself. In a
 * user namespace no node can be made: there they, and the few that every
 * container has, become mounts of the host's nodes.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "oci/oci.pb-c.h"

#include <stdbool.h>

/* The same specification when it asks for none, else a copy, in the arena, of
 * what changes in it. A device that isn't there is an error that names it. */
int devices_expand(struct arena *a, const Grpc__Spec *spec, bool user_namespace, const Grpc__Spec **ret_spec,
		   struct fault *fault);
