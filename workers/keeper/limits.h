/* Resource limits and the oom score of a process, in the child. What can't be
 * granted is clamped to what can, with a warning. */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"

int limits_resources(const Grpc__Process *p, int status, struct fault *fault);
/* Through the host's /proc. */
void limits_oom_score(int64_t score, int status);
