/*
 * The jails of the processes that handle foreign trees. Each has one folder as
 * its root, few capabilities, and the system calls that its work takes; no exec,
 * no sockets, no mounts, no other process. There is no way out but exit.
 */
#pragma once

#include "base/fault.h"

enum jail_kind {
	JAIL_UNPACK,  /* reads a foreign archive: makes files of any owner and kind */
	JAIL_PACK,    /* reads a foreign tree: files of any owner, and changes none of them */
	JAIL_INFLATE, /* reads foreign bytes and writes others: has no use for files */
};

/* root: a folder of this mount namespace, O_PATH is enough; -1 where the kind
 * opens no file. Afterwards "/" is that folder and is the working directory;
 * descriptors stay open. */
int jail_enter(enum jail_kind kind, int root, struct fault *fault) NODISCARD;
