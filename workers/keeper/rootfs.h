/*
 * The file system that a container sees. Runs in the process that becomes the
 * container, in a mount namespace of its own that is still a copy of the
 * host's; afterwards the root is the container's and nothing of the host's is
 * left.
 *
 * Sources are paths of the host, opened before anything changes. Targets are
 * paths inside a foreign root: each is resolved once, by the kernel, with that
 * root as "/", and mounted on by descriptor. No path is resolved twice.
 */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"
#include "workers/keeper/cgroup.h"
#include "workers/keeper/userns.h"

#include <stdbool.h>

struct mount_job;

#define ROOTFS_POD_FILES 3

struct rootfs {
	const Grpc__Spec *spec;
	int root;		    /* the detached root mount; -1: made of what follows */
	Grpc__Mount *const *mounts; /* on one another; none: the specification's path */
	size_t n_mounts;
	bool bare;	    /* nothing is mounted that the specification doesn't say */
	const char *place;  /* where the root is attached and stays; NULL: it becomes "/" */
	const int *volumes; /* detached mounts for those of type "image" */
	size_t n_volumes;
	int shm;	     /* the pod's shared memory, a detached mount; -1: the host's */
	const char *run_dir; /* holds hosts, resolv.conf and hostname */
	const struct cgroup *cgroup;
	bool cgroup_namespace;
	const struct userns *userns; /* of the pod */
	/* rootfs_prepare's: the host's part of what is mounted */
	struct mount_job *jobs;
	size_t n_jobs;
	Grpc__Mount pod_shm;
	int pod_files[ROOTFS_POD_FILES];
	/* set by rootfs_enter when the process wants a terminal; else -1 */
	int terminal, terminal_peer;
};

/* Opens what belongs to the host, with the rights that takes. */
int rootfs_prepare(struct rootfs *r, struct fault *fault);
/* The descriptors that it needs from then on, or before; ret_fds has room for ROOTFS_FDS_MAX. */
#define ROOTFS_MOUNTS_MAX 1024
#define ROOTFS_FDS_MAX (ROOTFS_MOUNTS_MAX + 1 + ROOTFS_POD_FILES)
size_t rootfs_fds(const struct rootfs *r, int *ret_fds);
/* Prepares unless that has been done, and changes to the new root, if it has no
 * other place. */
int rootfs_enter(struct rootfs *r, struct fault *fault);

/* --- between rootfs.c and its neighbours --- */

struct mount_options;

/* Mounts tree (a detached mount) on path inside root. directory: what to make
 * when there is nothing at path. */
int rootfs_attach(int root, int tree, const char *path, bool directory, struct fault *fault);
/* A new instance of a file system as a detached mount. */
int rootfs_new_fs(const char *type, const char *source, const struct mount_options *o, uint64_t attributes,
		  int *ret_tree, struct fault *fault);
/* Owners as the pod's user namespace maps them; the mount is detached. */
int rootfs_idmap(const struct rootfs *r, int tree);
/* A detached copy of what is mounted at path of the host. */
int rootfs_clone(const char *path, bool recursive, int *ret_tree);
/* The descriptor, counted from 1, that the source of a mount of type "image"
 * names. */
int rootfs_volume(const Grpc__Mount *m, const int *volumes, size_t n, int *ret_tree, struct fault *fault);
bool rootfs_is_directory(int fd);
/* What the options say of a mount, besides what its file system is made with. */
int rootfs_options(int tree, const struct mount_options *o, bool bind);
/* rootfs_bare.c: makes r->root; attaches what is mounted below it. */
int rootfs_bare_make(struct rootfs *r, struct fault *fault);
int rootfs_bare_rest(const struct rootfs *r, struct fault *fault);

/* A terminal of the devpts at /dev/pts inside root; box: its size, or NULL. */
int rootfs_terminal(int root, const Grpc__Box *box, int *ret_master, int *ret_peer, struct fault *fault);
/* rootfs_dev.c: nodes, links and the terminal below /dev. */
int rootfs_dev(struct rootfs *r, struct fault *fault);
/* rootfs_hide.c: masked and read-only paths, the read-only root. */
int rootfs_hide(const struct rootfs *r, struct fault *fault);
/* rootfs_cgroup.c: a mount of type "cgroup". */
int rootfs_cgroup(const struct rootfs *r, const Grpc__Mount *m, const struct mount_options *o, struct fault *fault);
