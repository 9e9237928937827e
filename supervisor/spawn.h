/* How a worker is born. */
#pragma once

#include "supervisor/config.h"

struct spawn {
	const struct config *config;
	const char *libexec; /* the folder of bulkhead-ROLE */
	enum role role;
	unsigned instance;
	uint32_t restarts;
	int workers_lock;
};

struct spawned {
	pid_t pid;
	int pidfd, control; /* both the caller's */
};

/* Whether all executables that it takes are there. */
int spawn_check(const struct config *c, const char *libexec, struct fault *fault) NODISCARD;
/* Starts the executable. What goes wrong in the child is in the log and ends it. */
int spawn(const struct spawn *s, struct spawned *ret_spawned, struct fault *fault) NODISCARD;
