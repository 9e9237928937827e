/* cgroup v2: resource limits. Units and ranges differ from those of v1, in
 * which the specification thinks. */
#include "workers/keeper/cgroup_private.h"

#include "base/cpu.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void amount(struct cgroup_settings *s, unsigned controller, bool needed, const char *file, int64_t value) {
	if (value < 0)
		cgroup_settings_add(s, controller, needed, file, "max");
	else
		cgroup_settings_add(s, controller, needed, file, "%" PRId64, value);
}

static void memory(const Grpc__LinuxMemory *m, struct cgroup_settings *s) {
	if (m->limit)
		amount(s, CGROUP_MEMORY, true, "memory.max", m->limit);
	if (m->reservation)
		amount(s, CGROUP_MEMORY, false, "memory.low", m->reservation);
	/* The specification's swap is memory and swap together. */
	if (m->swap < 0)
		amount(s, CGROUP_MEMORY, false, "memory.swap.max", -1);
	else if (m->swap > 0 && m->limit > 0 && m->swap >= m->limit)
		amount(s, CGROUP_MEMORY, false, "memory.swap.max", m->swap - m->limit);
}

static void cpu(const Grpc__LinuxCPU *c, struct cgroup_settings *s) {
	if (c->shares)
		cgroup_settings_add(s, CGROUP_CPU, false, "cpu.weight", "%" PRIu64, cpu_weight(c->shares));
	if (c->quota || c->period) {
		uint64_t period = c->period ? c->period : 100000;
		if (c->quota > 0)
			cgroup_settings_add(s, CGROUP_CPU, false, "cpu.max", "%" PRId64 " %" PRIu64, c->quota, period);
		else
			cgroup_settings_add(s, CGROUP_CPU, false, "cpu.max", "max %" PRIu64, period);
	}
	if (c->cpus[0])
		cgroup_settings_add(s, CGROUP_CPUSET, true, "cpuset.cpus", "%s", c->cpus);
	if (c->mems[0])
		cgroup_settings_add(s, CGROUP_CPUSET, true, "cpuset.mems", "%s", c->mems);
}

static void hugetlb(const Grpc__LinuxHugepageLimit *l, struct cgroup_settings *s) {
	char file[48];
	if (!cgroup_pagesize_valid(l->pagesize))
		return;
	snprintf(file, sizeof(file), "hugetlb.%s.max", l->pagesize);
	cgroup_settings_add(s, CGROUP_HUGETLB, false, file, "%" PRIu64, l->limit);
}

void cgroup_v2_settings(const Grpc__LinuxResources *r, struct cgroup_settings *ret) {
	if (r->memory)
		memory(r->memory, ret);
	if (r->cpu)
		cpu(r->cpu, ret);
	if (r->pids && r->pids->limit > 0)
		amount(ret, CGROUP_PIDS, true, "pids.max", r->pids->limit);
	for (size_t i = 0; i < r->n_hugepagelimits; i++)
		hugetlb(r->hugepagelimits[i], ret);
	if (r->blockio && r->blockio->weight)
		cgroup_settings_add(ret, CGROUP_BLKIO, false, "io.bfq.weight", "%u", r->blockio->weight);
}
