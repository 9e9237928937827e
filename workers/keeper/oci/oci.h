/*
 * Pods whose containers an OCI runtime makes (runc, crun, or any with their
 * command line).
 *
 *   oci.c      the keeper's side: makers, errands, orphans
 *   maker.c    the child that prepares a bundle and runs the runtime
 *   run.c      one execution of the runtime, and what its log says
 *   config.c   a Spec as config.json
 *   process.c  a Process as its part of that, or as process.json
 *
 * The pod's folder holds, as long as such a container is there:
 *
 *   oci/state/                the runtime's own (--root)
 *   oci/<container>/          its bundle: config.json, logs, pid files
 *   oci/<container>/rootfs/   where its root is attached, in the mount namespace
 *                             of the maker alone: elsewhere it's an empty folder
 *   oci/<container>/image-N   the same for its volumes from images
 *
 * Whose child is what: a maker is the keeper's child and runs the runtime as
 * its own. The runtime leaves the container's first process to the keeper, which
 * is a subreaper for that, knows its pidfd from the maker, and reaps it like any
 * other. A successor of the keeper isn't its parent and learns the exit code as
 * it does for native containers (adopt.c).
 */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"
#include "workers/keeper/process.h"

#include <limits.h>

struct container;
struct keeper;

struct oci_place {
	const char *program, *id; /* of the runtime; of the container */
	char state[PATH_MAX], bundle[PATH_MAX];
};

int oci_place(const struct keeper *k, const char *id, struct oci_place *ret_place, struct fault *fault);

/* What a maker is born with; descriptors are its own. */
struct oci_birth {
	const struct oci_place *place;
	const struct container *container;
	const Grpc__Spec *spec;
	const Grpc__Process *process;
	const struct user_ids *user; /* NULL: resolve in the root */
	const char *name;	     /* of an exec's files; NULL for a container */
	pid_t pid_namespace;	     /* of this process; 0: as the spec says */
	int root, shm;
	const int *volumes; /* detached mounts */
	size_t n_volumes;
	int stdio[3];
	int status;
	bool strict_groups;
};

/* Bodies of makers. */
void oci_make_container(void *birth);
void oci_make_exec(void *birth);

/* --- run.c --- */

/* The arguments follow --root and --log. log: the file's name in the bundle.
 * -1 in stdio is /dev/null. Blocks until the runtime has ended. */
int oci_run(const struct oci_place *p, const char *log, const int stdio[3], const char *const *arguments,
	    struct fault *fault);

/* --- config.c, process.c --- */

/* Beside config.json, where a mount of type "image" finds its tree. */
#define OCI_IMAGE_NAME "image-%s"

struct buffer;
struct json;

struct oci_config {
	const Grpc__Spec *spec;
	const Grpc__Process *process;
	const struct user_ids *user;
	const struct oci_place *place;
	const char *run_dir; /* the pod's: hosts and so on */
	const char *cgroup;  /* the path */
	pid_t pid_namespace; /* of this process; 0: its own or the host's, as the spec says */
	int status;	     /* for warnings */
};

int oci_config_write(const struct oci_config *c, struct buffer *to, struct fault *fault);
/* key NULL: the document's top. */
int oci_process_write(const struct oci_config *c, const char *key, struct json *j, struct fault *fault);
