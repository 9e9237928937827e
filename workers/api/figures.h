/* Figures of the kernel's, by the kernel's names, into a dialect's messages. */
#pragma once

#include "internal/task.pb-c.h"

#include <stddef.h>

/* Where one goes: uint64_t at the offset. */
struct metric_place {
	const char *name;
	size_t offset;
};

/* Those that the places name; others are passed over. */
void metric_put(void *to, const struct metric_place *places, size_t n, const Bulkhead__TaskStats *s);
