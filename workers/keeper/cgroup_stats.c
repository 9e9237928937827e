/* Figures of a control group, in either version's files. */
#include "workers/keeper/cgroup_private.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define STAT_SIZE 8192

static uint64_t number(const struct cgroup *c, int h, const char *file) {
	char text[64];
	if (cgroup_read(c, h, file, text, sizeof(text)) < 0)
		return 0;
	/* "max", and what v1 says instead of it */
	uint64_t v = strtoull(text, NULL, 10);
	return v >= UINT64_C(1) << 62 ? 0 : v;
}

static void memory_v1(const struct cgroup *c, int h, Bulkhead__TaskStats *s, char text[STAT_SIZE]) {
	uint64_t inactive = 0;
	s->memory_usage_bytes = number(c, h, "memory.usage_in_bytes");
	s->memory_limit_bytes = number(c, h, "memory.limit_in_bytes");
	if (cgroup_read(c, h, "memory.stat", text, STAT_SIZE) == 0) {
		inactive = cgroup_field(text, "total_inactive_file");
		s->memory_rss_bytes = cgroup_field(text, "total_rss");
		s->memory_swap_bytes = cgroup_field(text, "total_swap");
		s->memory_page_faults = cgroup_field(text, "total_pgfault");
		s->memory_major_page_faults = cgroup_field(text, "total_pgmajfault");
	}
	s->memory_working_set_bytes = s->memory_usage_bytes - MIN(inactive, s->memory_usage_bytes);
}

static void memory_v2(const struct cgroup *c, int h, Bulkhead__TaskStats *s, char text[STAT_SIZE]) {
	uint64_t inactive = 0;
	s->memory_usage_bytes = number(c, h, "memory.current");
	s->memory_limit_bytes = number(c, h, "memory.max");
	s->memory_swap_bytes = number(c, h, "memory.swap.current");
	if (cgroup_read(c, h, "memory.stat", text, STAT_SIZE) == 0) {
		inactive = cgroup_field(text, "inactive_file");
		s->memory_rss_bytes = cgroup_field(text, "anon");
		s->memory_page_faults = cgroup_field(text, "pgfault");
		s->memory_major_page_faults = cgroup_field(text, "pgmajfault");
	}
	s->memory_working_set_bytes = s->memory_usage_bytes - MIN(inactive, s->memory_usage_bytes);
}

bool cgroup_has(const struct cgroup *c, unsigned controller, int *ret_h) {
	*ret_h = c->system ? cgroup_find(c->system, controller) : -1;
	return *ret_h >= 0 && c->made >> *ret_h & 1;
}

void cgroup_stats(const struct cgroup *c, Bulkhead__TaskStats *s) {
	char text[STAT_SIZE];
	int h;
	s->timestamp = clock_real();
	if (cgroup_has(c, CGROUP_MEMORY, &h)) {
		if (c->system->hierarchies[h].v2)
			memory_v2(c, h, s, text);
		else
			memory_v1(c, h, s, text);
	}
	if (cgroup_has(c, CGROUP_CPUACCT, &h)) {
		if (!c->system->hierarchies[h].v2)
			s->cpu_usage_ns = number(c, h, "cpuacct.usage");
		else if (cgroup_read(c, h, "cpu.stat", text, sizeof(text)) == 0)
			s->cpu_usage_ns = cgroup_field(text, "usage_usec") * 1000;
	}
	if (cgroup_has(c, CGROUP_PIDS, &h))
		s->pids = number(c, h, "pids.current");
}
