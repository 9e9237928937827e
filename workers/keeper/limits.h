/* Resource limits of a process, in the child. What can't be granted is clamped
 * to what can, with a warning. */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"

struct rlimit;

int limits_resources(const Grpc__Process *p, int status, struct fault *fault);
/* What of l would be granted to this process, for whoever sets it. */
int limits_granted(const Grpc__POSIXRlimit *l, int status, struct rlimit *ret_limit, struct fault *fault);
