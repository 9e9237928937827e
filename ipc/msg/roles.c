#include "msg/roles.h"

#include <stddef.h>

static const char *const names[ROLE_COUNT] = {
	[ROLE_SUPERVISOR] = "supervisor", [ROLE_API] = "api",		[ROLE_METADATA] = "metadata",
	[ROLE_IMAGE] = "image",		  [ROLE_SNAPSHOT] = "snapshot", [ROLE_TASK] = "task",
	[ROLE_STREAM] = "stream",	  [ROLE_SYSTEMD] = "systemd",	[ROLE_GUEST] = "guest",
	[ROLE_KEEPER] = "keeper",
};

const char *role_name(enum role role) {
	return (unsigned)role < ROLE_COUNT ? names[role] : NULL;
}
