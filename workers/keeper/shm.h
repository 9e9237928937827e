/*
 * The pod's shared memory: a tmpfs in nobody's mount table, held by one
 * descriptor and cloned for each container. Kernels before 6.15 don't clone a
 * mount that is attached nowhere; for those the descriptor is of a mount
 * namespace that has it as its root, and nothing else.
 */
#pragma once

#include "base/fault.h"

int shm_new(uid_t uid, gid_t gid, int *ret_shm, struct fault *fault);
/* A detached clone, for the calling process's own mount namespace. The caller
 * is single-threaded and may lose its working directory. */
int shm_clone(int shm, int *ret_tree);

/* Takes the mount; for tests apart from shm_new. */
int shm_hold(int tree, int *ret_shm);
