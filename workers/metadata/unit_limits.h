/* What the CRI asks for as what systemd is told. */
#pragma once

#include "base/arena.h"
#include "cri/runtime.pb-c.h"
#include "internal/systemd.pb-c.h"

/* r may be NULL. What isn't said, and files of cgroup v2 that systemd has no
 * property for, are left out. */
void unit_limits(struct arena *a, const Runtime__V1__LinuxContainerResources *r, Bulkhead__UnitLimits *ret_limits);
