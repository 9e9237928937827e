/* Capability sets of a container's process. */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"

struct caps {
	uint64_t bounding, effective, permitted, ambient;
};

/* The sets of the specification, cut to what this process may hold itself;
 * ret_missing: what was cut. NULL: none at all. */
int caps_parse(const Grpc__LinuxCapabilities *spec, struct caps *ret_caps, uint64_t *ret_missing, struct fault *fault);
/* "CAP_SYS_ADMIN"; NULL for a number without a name. */
const char *caps_name(unsigned number);
/* What this process holds. */
uint64_t caps_own(void);

/* In the child, in this order: drop the bounding set while still privileged;
 * change ids with caps_keep set; then the final sets. keep is held (effective)
 * beyond them until execve, for the last step that needs it. The inheritable
 * set is exactly the ambient one: anything more would reach file capabilities
 * of the image. */
int caps_bound(const struct caps *c);
int caps_keep(void);
int caps_final(const struct caps *c, uint64_t keep);
