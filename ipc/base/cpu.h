/* CPU shares of cgroup v1, in which the OCI specification thinks, as the weight
 * of v2: 2..262144 becomes 1..10000. */
#pragma once

#include "base/macros.h"

#include <stdint.h>

static inline uint64_t cpu_weight(uint64_t shares) {
	shares = MIN(MAX(shares, UINT64_C(2)), UINT64_C(262144));
	return 1 + (shares - 2) * 9999 / 262142;
}
