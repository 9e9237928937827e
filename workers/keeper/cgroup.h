/*
 * Control groups of pods and containers, on cgroup v2, on v1, and on the
 * hybrid of both, where v1 has the controllers and the v2 hierarchy, which
 * costs one folder, tracks and kills processes.
 *
 * Nothing running is ever moved: a process is born in its v2 group (clone3),
 * and enters its v1 groups by itself, through "tasks" and before it has threads.
 * Moving another process by "cgroup.procs" waits for an RCU grace period.
 *
 * A struct cgroup is a path below every hierarchy, plus which hierarchies have
 * it. Folders are made where a limit or a figure needs them, and no others.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/task.pb-c.h"

#include <stdbool.h>
#include <sys/types.h>

enum cgroup_controller {
	CGROUP_CPU = 1 << 0,
	CGROUP_CPUACCT = 1 << 1,
	CGROUP_CPUSET = 1 << 2,
	CGROUP_MEMORY = 1 << 3,
	CGROUP_DEVICES = 1 << 4,
	CGROUP_FREEZER = 1 << 5,
	CGROUP_PIDS = 1 << 6,
	CGROUP_HUGETLB = 1 << 7,
	CGROUP_BLKIO = 1 << 8,
};

#define CGROUP_HIERARCHIES_MAX 16
#define CGROUP_PATH_MAX 512

struct cgroup_hierarchy {
	char mount[64];
	char name[32]; /* as in a v1 mount's options: "cpu,cpuacct" or "name=systemd" */
	unsigned controllers;
	bool v2;
};

/* What the machine has; read once, by the zygote. */
struct cgroup_system {
	struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
	size_t n;
	int v2;	     /* index of the v2 hierarchy; -1: none */
	int tracker; /* index of the one that finds and kills processes; -1: none */
};

struct cgroup {
	const struct cgroup_system *system;
	char path[CGROUP_PATH_MAX]; /* "/bulkhead/<pod>/<container>"; empty: none */
	unsigned made;		    /* bit per hierarchy */
	/* A scope of systemd's: the v2 folder is left to it, for it doesn't hear of
	 * the end of one that somebody else has removed. */
	bool scope;
};

/* From the text of /proc/self/mountinfo. */
void cgroup_system_parse(char *mountinfo, struct cgroup_system *ret_system);
int cgroup_system_detect(struct cgroup_system *ret_system);

/* "/a/b": absolute, no "..", no empty or odd component. */
bool cgroup_path_valid(const char *path);

/* Makes the group and sets its limits; on failure nothing of it is left.
 * resources may be NULL. devices: with the device rules that every container
 * gets. A limit that the machine can't set is a warning, said through warn,
 * unless it is one that protects others (memory, pids, devices). */
typedef void (*cgroup_warn_fn)(void *ctx, const char *text);
int cgroup_create(const struct cgroup_system *s, const char *path, const Grpc__LinuxResources *resources, bool devices,
		  cgroup_warn_fn warn, void *ctx, struct cgroup *ret_cgroup, struct fault *fault);
/* What the specification sets by the names of cgroup v2 files. */
int cgroup_unified(const struct cgroup *c, const Grpc__Spec *spec, cgroup_warn_fn warn, void *ctx, struct fault *fault);
/* Whether a file of that name is a setting; others move or stop processes. */
bool cgroup_unified_allowed(const char *file);
/* One such file. */
int cgroup_unified_set(const struct cgroup *c, const char *file, const char *value, cgroup_warn_fn warn, void *ctx,
		       struct fault *fault);
/* A group that exists already, for a successor. */
void cgroup_adopt(const struct cgroup_system *s, const char *path, struct cgroup *ret_cgroup);
/* A folder for one more tree of processes below c, in the tracking hierarchy
 * alone. */
/* One of them by this name has no process of the container's (see hold.c). */
#define CGROUP_HOLD "bulkhead-hold"
int cgroup_create_sub(const struct cgroup *c, const char *name, struct cgroup *ret_cgroup);

/* The v2 folder for CLONE_INTO_CGROUP, or -1. The caller closes it. */
int cgroup_open_v2(const struct cgroup *c);
/* The calling process, single-threaded, enters the v1 folders. */
int cgroup_enter_v1(const struct cgroup *c);
/* SIGKILL to whatever is in the group and below. Not an error when nothing is
 * there. Call it again until cgroup_remove works. */
void cgroup_kill(const struct cgroup *c);
/* sig to each process in the group itself. */
void cgroup_signal(const struct cgroup *c, int sig);
/* Is the process in the group itself? */
bool cgroup_holds(const struct cgroup *c, pid_t pid);
bool cgroup_populated(const struct cgroup *c);
/* cgroup_freeze.c. Waits until it stands still, a second at most. -EOPNOTSUPP
 * when the machine has no freezer. */
int cgroup_freeze(const struct cgroup *c, bool frozen);
/* Where its freezer is. */
int cgroup_freezer_path(const struct cgroup *c, char *ret_path, size_t size);
/* Whether SIGKILL reaches a frozen process. */
bool cgroup_kills_frozen(const struct cgroup *c);
/* Those in the group and in groups below it. */
void cgroup_each_pid(const struct cgroup *c, void (*fn)(void *ctx, pid_t pid), void *ctx);
/* A group that others made, with processes or groups in it. */
bool cgroup_in_use(const struct cgroup_system *s, const char *path);
/* Removes the group and all below it; -EBUSY while processes are in there. */
int cgroup_remove(struct cgroup *c);
/* Removes a path in every hierarchy, whether it's there or not. */
int cgroup_remove_path(const struct cgroup_system *s, const char *path);

/* The same, if nothing is in it nor below. */
void cgroup_remove_empty(const struct cgroup_system *s, const char *path);

/* cgroup_oom.c. How often the kernel has killed in the group for want of memory. */
uint64_t cgroup_oom_kills(const struct cgroup *c);
/* What polls as *ret_events when that may have changed; the caller closes it.
 * -ENODEV: the group's memory isn't counted. */
int cgroup_oom_open(const struct cgroup *c, uint32_t *ret_events);
/* What it has polled for so far is seen. */
void cgroup_oom_seen(int fd);
void cgroup_stats(const struct cgroup *c, Bulkhead__TaskStats *stats);
/* cgroup_detail.c: parts come from the arena. */
void cgroup_detail(struct arena *a, const struct cgroup *c, Bulkhead__TaskDetail *detail);
/* cgroup_figures.c: everything comes from the arena. */
void cgroup_figures(struct arena *a, const struct cgroup *c, Bulkhead__TaskStats *stats);
void cgroup_pressure(struct arena *a, const struct cgroup *c, Bulkhead__TaskStats *stats);

/* The hierarchy that has a controller; -1 none. */
int cgroup_find(const struct cgroup_system *s, unsigned controller);
/* One file of the group in hierarchy h: 0 or a negative errno. */
int cgroup_write(const struct cgroup *c, int h, const char *file, const char *value);
/* The file's first size - 1 bytes, NUL-terminated. */
int cgroup_read(const struct cgroup *c, int h, const char *file, char *ret_text, size_t size);
/* The number behind "key " at the start of a line, or 0. */
uint64_t cgroup_field(const char *text, const char *key);
