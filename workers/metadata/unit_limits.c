#include "workers/metadata/unit_limits.h"

#include <stdlib.h>
#include <string.h>

#define CPUS_MAX 8192

/* "0-3,6" as bits. The kernel refuses a malformed list before systemd hears of
 * it; here it says nothing. */
static ProtobufCBinaryData bits(struct arena *a, const char *list) {
	ProtobufCBinaryData none = { 0 }, set = { .data = arena_zalloc(a, CPUS_MAX / 8) };
	for (const char *p = list; set.data && *p; p += *p == ',') {
		char *end;
		unsigned long first = strtoul(p, &end, 10), last = first;
		if (end == p)
			return none;
		p = end;
		if (*p == '-') {
			last = strtoul(p + 1, &end, 10);
			p = end;
		}
		if ((*p && *p != ',') || last < first || last >= CPUS_MAX)
			return none;
		for (unsigned long i = first; i <= last; i++)
			set.data[i / 8] |= (uint8_t)(1 << i % 8);
		set.len = last / 8 + 1 > set.len ? last / 8 + 1 : set.len;
	}
	return set.data ? set : none;
}

/* "max", or a number; 0 for anything else. */
static int64_t amount(const char *value) {
	char *end;
	if (strcmp(value, "max") == 0)
		return -1;
	unsigned long long n = strtoull(value, &end, 10);
	return *end || n > INT64_MAX ? 0 : (int64_t)n;
}

static void unified(const char *file, const char *value, Bulkhead__UnitLimits *l) {
	const struct {
		const char *file;
		int64_t *to;
	} known[] = {
		{ "memory.max", &l->memory_max }, { "memory.swap.max", &l->memory_swap_max },
		{ "memory.low", &l->memory_low }, { "memory.high", &l->memory_high },
		{ "pids.max", &l->tasks_max },
	};
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(file, known[i].file) == 0)
			*known[i].to = amount(value);
}

/* The CRI's limit is of memory and swap together. */
static void swap(const Runtime__V1__LinuxContainerResources *r, Bulkhead__UnitLimits *l) {
	int64_t both = r->memory_swap_limit_in_bytes, memory = r->memory_limit_in_bytes;
	if (both < 0)
		l->memory_swap_max = -1;
	else if (both > memory && memory > 0)
		l->memory_swap_max = both - memory;
	else
		l->no_swap = both > 0 && both == memory;
}

void unit_limits(struct arena *a, const Runtime__V1__LinuxContainerResources *r, Bulkhead__UnitLimits *ret_limits) {
	Bulkhead__UnitLimits l = BULKHEAD__UNIT_LIMITS__INIT;
	if (r) {
		l.memory_max = r->memory_limit_in_bytes;
		l.cpu_shares = r->cpu_shares > 0 ? (uint64_t)r->cpu_shares : 0;
		l.cpu_quota_us = r->cpu_quota;
		l.cpu_period_us = r->cpu_period > 0 ? (uint64_t)r->cpu_period : 0;
		l.cpus = bits(a, r->cpuset_cpus);
		l.mems = bits(a, r->cpuset_mems);
		swap(r, &l);
		for (size_t i = 0; i < r->n_unified; i++)
			unified(r->unified[i]->key, r->unified[i]->value, &l);
	}
	*ret_limits = l;
}
