/*
 * The guest worker: what a Kata agent does to the guest that it runs in. It is
 * root there and lives in the guest's own namespaces.
 *
 *   main.c      the table of requests
 *   job.c       each request in a child of its own, since mounts, devices and
 *               tools wait
 *   place.c     paths below agent_run_root, where no symbolic link leads out
 *   holding.c   who needs what is mounted: folders and files in run_root, so
 *               that the truth outlives any process
 *   storage.c   guest_attach, guest_detach: a holding and its mount, undone by
 *               halves
 *   driver.c    where a storage comes from, by its driver
 *   device.c    devices that are waited for
 *   group.c     whose a volume's files are
 *   mounting.c  one mount
 *   volume.c    what is told and changed of mounts
 *   setup.c     the sandbox's beginning and end
 *   copy.c      CopyFile
 *   diagnostics.c  what containers say at their end
 *   link.c, route.c, neighbor.c, iptables.c (network.h)
 *   details.c, metrics.c, hotplug.c, machine.c (clock, random numbers, swap)
 *   tool.c      programs of the guest's
 *
 * Invariants: the worker itself holds no state. A child may be killed between
 * any two system calls; what it left is found in the holdings. Nothing is
 * mounted or written outside agent_run_root.
 */
#pragma once

#include "base/arena.h"
#include "base/list.h"
#include "boot/boot.h"
#include "loop/child.h"
#include "msg/typed.h"
#include "workers/skeleton/worker.h"

#include <errno.h>

#define GUEST_JOBS_MAX 64

struct guest {
	struct loop *loop;
	const struct boot_config *config;
	unsigned n_jobs;
	struct list jobs; /* in the order of their requests */
	uint64_t scrapes; /* of metrics */
	pid_t supervisor;
};

/* What a request has while it is worked off, in its child. */
struct work {
	const struct boot_config *config;
	struct arena arena;
	pid_t supervisor;
	uint64_t scrapes;
	ProtobufCMessage *reply; /* NULL: the reply's type has nothing to say */
};

struct verb {
	uint16_t number;
	const char *name; /* of the process, at most 15 bytes; errors begin with it */
	int (*run)(struct work *w, const ProtobufCMessage *request, struct fault *fault);
	bool reads; /* changes nothing: ended when nobody waits any longer */
	/* Requests about one owner are worked off in their order; "": about all. */
	const char *(*owner)(const ProtobufCMessage *request);
};

/* --- job.c --- */

void job_begin(struct guest *g, struct msg_request *r, const ProtobufCMessage *request, const struct verb *verb);
static inline int no_memory(struct fault *fault) {
	return fault_errno(fault, ENOMEM, "the guest worker");
}

/* --- place.c --- */

/* A name in an open folder below agent_run_root. */
struct place {
	int folder;
	const char *name; /* the end of the path that it was made of */
};
#define PLACE_NONE \
	{ .folder = -1 }
void place_close(struct place *p);
#define CLEANUP_PLACE CLEANUP(place_close)

/* Absolute, and without ".", ".." or empty parts? */
bool path_clean(const char *path);
/* make: the folders above it, 0755. Symbolic links on the way are refused. */
int place_find(const struct work *w, const char *path, bool make, struct place *ret_place, struct fault *fault);
/* O_PATH; the top of what is mounted there. */
int place_open(const struct place *p);
/* With all that is in it; none there is success. */
int tree_remove(const struct place *p);

/* --- holding.c --- */

/* What is attached at one mount point. Open, it is locked against all others. */
struct holding {
	int parent, folder;
	char name[65];
};
#define HOLDING_NONE \
	{ .parent = -1, .folder = -1 }
void holding_close(struct holding *h);
#define CLEANUP_HOLDING CLEANUP(holding_close)

/* Without make, -ENOENT when there is none. */
int holding_open(const struct work *w, const char *mount_point, bool make, struct holding *ret_holding);
int holding_add(const struct holding *h, const char *owner);
bool holding_has(const struct holding *h, const char *owner);
int holding_drop(const struct holding *h, const char *owner); /* "": all of them */
/* How many need it, or a negative errno. */
int holding_count(const struct holding *h);
/* Marks: what is to be known at its end. */
#define HOLDING_READY ".ready"	 /* it was attached, not only begun */
#define HOLDING_SHARED ".shared" /* outlives its owners: counts as one */
#define HOLDING_TREE ".tree"	 /* no mount: the folder's content goes with it */
#define HOLDING_UPPER ".upper"	 /* the folders PATH.upper and PATH.work go with it */
int holding_mark(const struct holding *h, const char *mark);
bool holding_marked(const struct holding *h, const char *mark);
int holding_unmark(const struct holding *h, const char *mark);
void holding_remove(const struct holding *h);
/* The mount points of all that there is; a negative errno of fn ends the walk. */
int holdings_each(struct work *w, int (*fn)(struct work *w, const char *mount_point, void *ctx), void *ctx);

/* --- storage.c --- */

const char *attach_owner(const ProtobufCMessage *request);
const char *detach_owner(const ProtobufCMessage *request);
const char *setup_owner(const ProtobufCMessage *request);
int guest_attach_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_detach_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);

/* --- device.c, setup.c, volume.c, link.c, route.c, neighbor.c, iptables.c,
 *     details.c, metrics.c, hotplug.c, copy.c, machine.c --- */

int guest_devices_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_setup_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_clear_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_ephemeral_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_refresh_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_volume_stats_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_interface_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_interfaces_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_routes_update_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_routes_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_neighbors_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_iptables_get_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_iptables_set_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_details_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_metrics_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_online_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_probe_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_copy_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_swap_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_swap_path_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_reseed_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_diagnostics_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);
int guest_clock_run(struct work *w, const ProtobufCMessage *request, struct fault *fault);

/* --- diagnostics.c --- */

int log_note(const struct work *w, const char *owner, const char *file);
/* "": everybody's */
void log_forget(const struct work *w, const char *owner);

/* --- driver.c --- */

int driver_attach(struct work *w, const Grpc__Storage *s, const struct place *at, struct fault *fault);
/* What is to be remembered of it before it is begun; NULL: nothing. */
const char *driver_mark(const Grpc__Storage *s);
/* All that this version has; ends with NULL. */
const char *driver_name(size_t i);

/* --- group.c --- */

/* The volume's files to its fs_group. */
int group_give(const struct place *at, const Grpc__Storage *s, struct fault *fault);

/* --- mounting.c --- */

/* Options of the agent's own have been taken out of them. */
struct mounting {
	const char *source, *fstype;
	char *const *options;
	size_t n_options;
};
/* Makes the folder (or file, to bind a file) where it's missing. */
int mounting_do(struct work *w, const struct mounting *m, const struct place *at, struct fault *fault);
/* Whether something is mounted right there. */
bool mounting_is(const struct place *at);
int mounting_end(const struct place *at);
