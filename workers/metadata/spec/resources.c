/* CPU, memory, huge pages, the oom score; sets of CPUs are checked, because they end in the
 * kernel's files. */
#include "workers/metadata/spec/parts.h"

#include "workers/metadata/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int check_set(struct builder *b, const char *what, const char *set) {
	if (strspn(set, "0123456789,-") != strlen(set))
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "%s \"%.64s\" is no list of numbers like 0-3,6",
				 what, set);
	return 0;
}

static int cpu(struct builder *b) {
	const Runtime__V1__LinuxContainerResources *q = b->resources;
	int r = check_set(b, "cpuset_cpus", q->cpuset_cpus);
	if (r == 0)
		r = check_set(b, "cpuset_mems", q->cpuset_mems);
	if (r == 0 && (q->cpu_period < 0 || q->cpu_shares < 0))
		r = fault_set(b->fault, FAULT_INVALID_ARGUMENT, "cpu_period and cpu_shares can't be negative");
	NEW(b, c, LinuxCPU, LINUX_CPU);
	if (r < 0 || !c)
		return r;
	c->shares = (uint64_t)q->cpu_shares;
	c->quota = q->cpu_quota;
	c->period = (uint64_t)q->cpu_period;
	c->cpus = q->cpuset_cpus;
	c->mems = q->cpuset_mems;
	b->spec->linux->resources->cpu = c;
	return 0;
}

static void memory(struct builder *b) {
	NEW(b, m, LinuxMemory, LINUX_MEMORY);
	if (!m)
		return;
	m->limit = b->resources->memory_limit_in_bytes;
	m->swap = b->resources->memory_swap_limit_in_bytes;
	b->spec->linux->resources->memory = m;
}

static int hugepages(struct builder *b) {
	Grpc__LinuxResources *r = b->spec->linux->resources;
	for (size_t i = 0; i < b->resources->n_hugepage_limits; i++) {
		const Runtime__V1__HugepageLimit *q = b->resources->hugepage_limits[i];
		/* Part of a file's name: "2MB", "1GB". */
		size_t digits = strspn(q->page_size, "0123456789");
		if (digits == 0 || strspn(q->page_size + digits, "KMGB") != strlen(q->page_size + digits))
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "\"%.32s\" is no size of huge pages",
					 q->page_size);
		NEW(b, h, LinuxHugepageLimit, LINUX_HUGEPAGE_LIMIT);
		if (!h)
			return 0;
		h->pagesize = q->page_size;
		h->limit = q->limit;
		APPEND(b, r->hugepagelimits, r->n_hugepagelimits, h);
	}
	return 0;
}

static int unified(struct builder *b) {
	for (size_t i = 0; i < b->resources->n_unified; i++) {
		const char *key = b->resources->unified[i]->key, *value = b->resources->unified[i]->value;
		if (strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != strlen(key) ||
		    !strchr(key, '.') || key[0] == '.' || strstr(key, ".."))
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "\"%.64s\" is no cgroup setting", key);
		int r = check_text("the value of a cgroup setting", value, b->fault);
		if (r < 0)
			return r;
		builder_annotate(b, builder_text(b, SPEC_UNIFIED "%s", key), value);
	}
	return 0;
}

/* Is the process's, but comes with the limits. */
static int oom_score(struct builder *b) {
	int64_t score = b->resources->oom_score_adj;
	if (score < -1000 || score > 1000)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "oom_score_adj %" PRId64 " is out of range: -1000 to 1000", score);
	return 0;
}

int spec_resources(struct builder *b) {
	int r = oom_score(b);
	if (r == 0)
		r = cpu(b);
	if (r < 0)
		return r;
	memory(b);
	r = hugepages(b);
	return r < 0 ? r : unified(b);
}

int spec_resources_of(struct arena *a, const Runtime__V1__LinuxContainerResources *q, Grpc__LinuxResources **ret,
		      struct fault *fault) {
	Grpc__Spec spec = GRPC__SPEC__INIT;
	Grpc__Linux linux = GRPC__LINUX__INIT;
	struct builder b = { .arena = a, .fault = fault, .spec = &spec, .resources = q };
	NEW(&b, resources, LinuxResources, LINUX_RESOURCES);
	if (!resources)
		return fault_errno(fault, ENOMEM, "build the limits");
	spec.linux = &linux;
	linux.resources = resources;
	int r = spec_resources(&b);
	if (r == 0 && b.failed)
		r = fault_errno(fault, ENOMEM, "build the limits");
	if (r == 0)
		*ret = resources;
	return r;
}
