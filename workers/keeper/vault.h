/* The packets of a vault, for those who read it. */
#pragma once

#include "base/id.h"
#include "workers/keeper/keeper.h"

#include <fcntl.h>

struct vault_packet {
	uint32_t kind; /* enum vault_kind */
	uint32_t mask; /* which of the descriptors are there */
	char id[96];
};

/* 1, 0 when it is empty, or a negative errno. Absent descriptors are -1. */
int vault_take(int fd, struct vault_packet *ret_packet, int ret_fds[VAULT_FDS_MAX]);
