/* What the files of churn share. */
#pragma once

#include "base/fault.h"

#include <stdbool.h>
#include <stdint.h>

#define CHURN_PATHS_MAX 16

enum step { RUN, CREATE, START, EXEC, STATUS, STOP, REMOVE, STOP_POD, REMOVE_POD, CYCLE, READY, STEP_COUNT };

struct options {
	const char *socket, *image, *network, *handler, *log_dir, *call;
	unsigned clients, pods, execs, hold;
	const char *cgroups[CHURN_PATHS_MAX];
	const char *matches[CHURN_PATHS_MAX];
	unsigned n_cgroups, n_matches;
	int pid;
	bool json;
};

/* Latencies of one kind of call, in nanoseconds; one per thread, merged at the end. */
struct samples {
	int64_t *values;
	unsigned n, room;
};
void samples_add(struct samples *s, int64_t ns);
void samples_merge(struct samples *into, struct samples *from);
/* Sorts; p in 0..100. 0 when there are none. */
int64_t samples_percentile(struct samples *s, unsigned p);

/* CPU nanoseconds so far of the cgroups given (v1 cpuacct or v2). */
int64_t usage_cgroups(const struct options *o);
/* CPU nanoseconds so far of the whole machine, idle and I/O wait left out. */
int64_t usage_machine(void);
/* PSS in KiB of o->pid, its descendants and the processes whose name begins
 * with a match, without those that live in another pid namespace (they are the
 * workload); *ret_processes counts them. */
int64_t usage_pss(const struct options *o, unsigned *ret_processes);
