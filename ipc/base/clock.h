/* Times are nanoseconds in int64_t. Deadlines count on CLOCK_MONOTONIC, what
 * people and records see on CLOCK_REALTIME. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NS_PER_SEC INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

static inline int64_t clock_of(clockid_t id) {
	struct timespec ts;
	clock_gettime(id, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}
static inline int64_t clock_mono(void) {
	return clock_of(CLOCK_MONOTONIC);
}
static inline int64_t clock_real(void) {
	return clock_of(CLOCK_REALTIME);
}
