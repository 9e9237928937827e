/* The oom score: of the process that calls, or of what runs in a group. The
 * kernel lets nobody without CAP_SYS_RESOURCE go below what such a one has set;
 * what it refuses is a warning. */
#pragma once

#include "workers/keeper/cgroup.h"

#include <inttypes.h>

/* What such a warning begins with. */
#define OOM_WARNING "an oom score of "
#define OOM_WARNING_FORMAT OOM_WARNING "%" PRId64 " is not permitted here (%s), it is %s"

/* In the child, through the host's /proc. Warns on the status socket. */
void oom_score_become(int64_t score, int status);
/* All processes of the group and below it. Where it is refused, this process's
 * own score is the nearest that is known to be granted. */
void oom_score_set(const struct cgroup *c, int64_t score, cgroup_warn_fn warn, void *ctx);
