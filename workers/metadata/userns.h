/*
 * What a pod's configuration says about its user namespace: none, or one
 * mapping of ids each, as the CRI has it.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/record.pb-c.h"

#include <stdbool.h>

/* NULL: the pod has none. */
const Runtime__V1__UserNamespace *userns_of(const Runtime__V1__PodSandboxConfig *c);
int userns_check(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) NODISCARD;
bool userns_same_map(Runtime__V1__IDMapping *const *a, size_t n_a, Runtime__V1__IDMapping *const *b, size_t n_b);
/* The same for other workers, in the arena; fewer than n when out of memory. */
Bulkhead__IdMapping **userns_map(struct arena *a, Runtime__V1__IDMapping *const *map, size_t n, size_t *ret_n);
