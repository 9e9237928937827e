/* Who takes part. A role is a worker's folder, its executable, its process
 * title and its log tag. */
#pragma once

enum role {
	ROLE_SUPERVISOR,
	ROLE_API,
	ROLE_METADATA,
	ROLE_IMAGE,
	ROLE_SNAPSHOT,
	ROLE_TASK,
	ROLE_STREAM,
	ROLE_SYSTEMD,
	ROLE_GUEST,
	ROLE_KEEPER,
	ROLE_ZYGOTE = ROLE_KEEPER, /* of which keepers are made: the same program and privileges */
	ROLE_COUNT
};

/* "metadata"; NULL for a number that is none. */
const char *role_name(enum role role);
