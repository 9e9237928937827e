/*
 * Kernel parameters of a pod. The table is closed: only what belongs to a
 * namespace that the pod has for itself, never the host's. Written through the
 * host's /proc by a process that is in those namespaces.
 */
#pragma once

#include "base/fault.h"

#include <stdbool.h>

struct sysctl_scope {
	bool net, ipc, uts; /* namespaces of the pod's own */
};

int sysctl_write(const struct sysctl_scope *scope, const char *key, const char *value, struct fault *fault);
