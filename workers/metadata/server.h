/* Which daemon this is: for clients that keep several apart. */
#pragma once

#include "base/fault.h"

#include <stdint.h>
#include <sys/types.h>

#define UUID_SIZE 37

struct server_identity {
	char uuid[UUID_SIZE]; /* of the state, made at its first start */
	pid_t supervisor;
	uint64_t pid_namespace; /* inode number; 0: unknown */
};

/* What only /proc tells; before it is out of sight. */
void server_prepare(struct server_identity *s);
/* Reads <dir>/uuid, or makes it. */
int server_identify(struct server_identity *s, const char *dir, struct fault *fault) NODISCARD;
