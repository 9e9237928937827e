/* Figures as the CRI shows them; views live in the gathering's arena. */
#pragma once

#include "workers/metadata/gather.h"

/* NULL when out of memory, all of them. */
Runtime__V1__UInt64Value *view_number(struct arena *a, uint64_t value);
Runtime__V1__ContainerStats *view_container_stats(struct gathering *g, struct container *c);
Runtime__V1__PodSandboxStats *view_sandbox_stats(struct gathering *g, struct sandbox *s);
