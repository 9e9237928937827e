/*
 * The jail of the process that reads a foreign archive: its root is the one
 * folder that it fills, it has the capabilities that making files of any owner
 * and kind takes, and the system calls for that; no exec, no sockets, no
 * mounts, no other process. There is no way out but exit.
 */
#pragma once

#include "base/fault.h"

/* root: a folder of this mount namespace, O_PATH is enough. Afterwards "/" is
 * that folder and is the working directory; descriptors stay open. */
int jail_enter(int root, struct fault *fault) NODISCARD;
