/* cgroup v1: resource limits and device rules. */
#include "workers/keeper/cgroup_private.h"

#include "base/fd.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void memory(const Grpc__LinuxMemory *m, struct cgroup_settings *s) {
	if (m->limit)
		cgroup_settings_add(s, CGROUP_MEMORY, true, "memory.limit_in_bytes", "%" PRId64, m->limit);
	if (m->reservation)
		cgroup_settings_add(s, CGROUP_MEMORY, false, "memory.soft_limit_in_bytes", "%" PRId64, m->reservation);
	if (m->swap)
		cgroup_settings_add(s, CGROUP_MEMORY, false, "memory.memsw.limit_in_bytes", "%" PRId64, m->swap);
	if (m->swappiness)
		cgroup_settings_add(s, CGROUP_MEMORY, false, "memory.swappiness", "%" PRIu64, m->swappiness);
	if (m->disableoomkiller)
		cgroup_settings_add(s, CGROUP_MEMORY, false, "memory.oom_control", "1");
}

static void cpu(const Grpc__LinuxCPU *c, struct cgroup_settings *s) {
	if (c->shares)
		cgroup_settings_add(s, CGROUP_CPU, false, "cpu.shares", "%" PRIu64, c->shares);
	if (c->period)
		cgroup_settings_add(s, CGROUP_CPU, false, "cpu.cfs_period_us", "%" PRIu64, c->period);
	if (c->quota)
		cgroup_settings_add(s, CGROUP_CPU, false, "cpu.cfs_quota_us", "%" PRId64, c->quota);
	if (c->cpus[0])
		cgroup_settings_add(s, CGROUP_CPUSET, true, "cpuset.cpus", "%s", c->cpus);
	if (c->mems[0])
		cgroup_settings_add(s, CGROUP_CPUSET, true, "cpuset.mems", "%s", c->mems);
}

static void hugetlb(const Grpc__LinuxHugepageLimit *l, struct cgroup_settings *s) {
	char file[48];
	if (!cgroup_pagesize_valid(l->pagesize))
		return;
	snprintf(file, sizeof(file), "hugetlb.%s.limit_in_bytes", l->pagesize);
	cgroup_settings_add(s, CGROUP_HUGETLB, false, file, "%" PRIu64, l->limit);
}

void cgroup_v1_settings(const Grpc__LinuxResources *r, struct cgroup_settings *ret) {
	if (r->memory)
		memory(r->memory, ret);
	if (r->cpu)
		cpu(r->cpu, ret);
	if (r->pids && r->pids->limit > 0)
		cgroup_settings_add(ret, CGROUP_PIDS, true, "pids.max", "%" PRId64, r->pids->limit);
	for (size_t i = 0; i < r->n_hugepagelimits; i++)
		hugetlb(r->hugepagelimits[i], ret);
	if (r->blockio && r->blockio->weight)
		cgroup_settings_add(ret, CGROUP_BLKIO, false, "blkio.bfq.weight", "%u", r->blockio->weight);
}

static void rule_text(const struct device_rule *d, char *ret_text, size_t size) {
	char major[24] = "*", minor[24] = "*";
	if (d->major >= 0)
		snprintf(major, sizeof(major), "%" PRId64, d->major);
	if (d->minor >= 0)
		snprintf(minor, sizeof(minor), "%" PRId64, d->minor);
	if (d->type == 'a')
		snprintf(ret_text, size, "a");
	else
		snprintf(ret_text, size, "%c %s:%s %s%s%s", d->type, major, minor, d->access & DEVICE_READ ? "r" : "",
			 d->access & DEVICE_WRITE ? "w" : "", d->access & DEVICE_MKNOD ? "m" : "");
}

/* A rule is one write. The files stay open in between: there are some twenty
 * rules, and finding the file costs more than writing to it. */
int device_rules_v1(const struct cgroup *c, int h, const struct device_rules *rules) {
	CLEANUP_FD int allow = cgroup_file_open(c, h, "devices.allow", O_WRONLY);
	CLEANUP_FD int deny = cgroup_file_open(c, h, "devices.deny", O_WRONLY);
	if (allow < 0 || deny < 0)
		return allow < 0 ? allow : deny;
	for (size_t i = 0; i < rules->n; i++) {
		char text[80];
		rule_text(&rules->list[i], text, sizeof(text));
		int r = fd_write_all(rules->list[i].allow ? allow : deny, text, strlen(text));
		if (r < 0)
			return r;
	}
	return 0;
}
