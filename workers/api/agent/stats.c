/* StatsContainer: the kernel's figures of a container's group, of cgroup v1 or
 * of v2, as the agent's one form. What the kernel calls "max" is 0. */
#include "workers/api/agent/agent.h"

#include "workers/api/figures.h"
#include "workers/api/task_request.h"

#include <stdlib.h>
#include <string.h>

/* All parts of the answer. */
struct parts {
	Grpc__StatsContainerResponse reply;
	Grpc__CgroupStats group;
	Grpc__CpuStats cpu;
	Grpc__CpuUsage usage;
	Grpc__ThrottlingData throttling;
	Grpc__MemoryStats memory;
	Grpc__MemoryData ram, swap, kernel;
	Grpc__PidsStats pids;
	Grpc__BlkioStats io;
};

#define PLACE(figure, part) \
	{ figure, offsetof(struct parts, part) }
#define MEMORY_V1(prefix, part)                                                                           \
	PLACE(prefix ".usage_in_bytes", part.usage), PLACE(prefix ".max_usage_in_bytes", part.max_usage), \
	    PLACE(prefix ".failcnt", part.failcnt), PLACE(prefix ".limit_in_bytes", part.limit)

static const struct metric_place places_v1[] = {
	PLACE("cpuacct.usage", usage.total_usage),
	PLACE("cpuacct.usage_sys", usage.usage_in_kernelmode),
	PLACE("cpuacct.usage_user", usage.usage_in_usermode),
	PLACE("cpu.stat/nr_periods", throttling.periods),
	PLACE("cpu.stat/nr_throttled", throttling.throttled_periods),
	PLACE("cpu.stat/throttled_time", throttling.throttled_time),
	PLACE("memory.stat/cache", memory.cache),
	MEMORY_V1("memory", ram),
	MEMORY_V1("memory.memsw", swap),
	MEMORY_V1("memory.kmem", kernel),
	PLACE("pids.current", pids.current),
	PLACE("pids.max", pids.limit),
};

static const struct metric_place places_v2[] = {
	PLACE("cpu.stat/usage_usec", usage.total_usage),
	PLACE("cpu.stat/system_usec", usage.usage_in_kernelmode),
	PLACE("cpu.stat/user_usec", usage.usage_in_usermode),
	PLACE("cpu.stat/nr_periods", throttling.periods),
	PLACE("cpu.stat/nr_throttled", throttling.throttled_periods),
	PLACE("cpu.stat/throttled_usec", throttling.throttled_time),
	PLACE("memory.stat/file", memory.cache),
	PLACE("memory.current", ram.usage),
	PLACE("memory.peak", ram.max_usage),
	PLACE("memory.max", ram.limit),
	PLACE("memory.events/max", ram.failcnt),
	PLACE("memory.swap.current", swap.usage),
	PLACE("memory.swap.peak", swap.max_usage),
	PLACE("memory.swap.max", swap.limit),
	PLACE("pids.current", pids.current),
	PLACE("pids.max", pids.limit),
};

static struct parts *parts_new(struct arena *a) {
	struct parts *p = arena_alloc(a, sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct parts){
		.reply = GRPC__STATS_CONTAINER_RESPONSE__INIT,
		.group = GRPC__CGROUP_STATS__INIT,
		.cpu = GRPC__CPU_STATS__INIT,
		.usage = GRPC__CPU_USAGE__INIT,
		.throttling = GRPC__THROTTLING_DATA__INIT,
		.memory = GRPC__MEMORY_STATS__INIT,
		.ram = GRPC__MEMORY_DATA__INIT,
		.swap = GRPC__MEMORY_DATA__INIT,
		.kernel = GRPC__MEMORY_DATA__INIT,
		.pids = GRPC__PIDS_STATS__INIT,
		.io = GRPC__BLKIO_STATS__INIT,
	};
	p->reply.cgroup_stats = &p->group;
	p->group.cpu_stats = &p->cpu;
	p->cpu.cpu_usage = &p->usage;
	p->cpu.throttling_data = &p->throttling;
	p->group.memory_stats = &p->memory;
	p->memory.usage = &p->ram;
	p->memory.swap_usage = &p->swap;
	p->memory.kernel_usage = &p->kernel;
	p->group.pids_stats = &p->pids;
	p->group.blkio_stats = &p->io;
	return p;
}

static void limits_clear(struct parts *p) {
	uint64_t *const limits[] = { &p->pids.limit, &p->ram.limit, &p->swap.limit };
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (*limits[i] == UINT64_MAX)
			*limits[i] = 0;
}

static void microseconds(struct parts *p) {
	uint64_t *const times[] = { &p->usage.total_usage, &p->usage.usage_in_kernelmode, &p->usage.usage_in_usermode,
				    &p->throttling.throttled_time };
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		*times[i] *= 1000;
}

/* --- lists ------------------------------------------------------------------ */

static const char *behind(const char *name, const char *prefix) {
	size_t n = strlen(prefix);
	return strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

/* All lines of memory.stat. */
static int memory_lines(struct arena *a, const Bulkhead__TaskStats *s, Grpc__MemoryStats *m) {
	m->stats = arena_alloc(a, (s->n_figures + 1) * sizeof(*m->stats));
	for (size_t i = 0; m->stats && i < s->n_figures; i++) {
		const char *line = behind(s->figures[i]->name, "memory.stat/");
		if (!line)
			continue;
		Grpc__MemoryStats__StatsEntry *e =
		    ARENA_NEW(a, Grpc__MemoryStats__StatsEntry, GRPC__MEMORY_STATS__STATS_ENTRY__INIT);
		if (!e)
			return -1;
		e->key = (char *)(uintptr_t)line;
		e->value = s->figures[i]->value;
		m->stats[m->n_stats++] = e;
	}
	return m->stats ? 0 : -1;
}

/* In the kernel's order, which is that of the CPUs. */
static int each_cpu(struct arena *a, const Bulkhead__TaskStats *s, Grpc__CpuUsage *usage) {
	usage->percpu_usage = arena_alloc(a, (s->n_figures + 1) * sizeof(*usage->percpu_usage));
	for (size_t i = 0; usage->percpu_usage && i < s->n_figures; i++)
		if (behind(s->figures[i]->name, "cpuacct.usage_percpu/"))
			usage->percpu_usage[usage->n_percpu_usage++] = s->figures[i]->value;
	return usage->percpu_usage ? 0 : -1;
}

static int hugepages(struct arena *a, const Bulkhead__TaskDetail *d, Grpc__CgroupStats *g) {
	g->hugetlb_stats = arena_alloc(a, (d->n_hugepages + 1) * sizeof(*g->hugetlb_stats));
	for (size_t i = 0; g->hugetlb_stats && i < d->n_hugepages; i++) {
		Grpc__CgroupStats__HugetlbStatsEntry *e =
		    ARENA_NEW(a, Grpc__CgroupStats__HugetlbStatsEntry, GRPC__CGROUP_STATS__HUGETLB_STATS_ENTRY__INIT);
		Grpc__HugetlbStats *h = ARENA_NEW(a, Grpc__HugetlbStats, GRPC__HUGETLB_STATS__INIT);
		if (!e || !h)
			return -1;
		h->usage = d->hugepages[i]->usage_bytes;
		h->max_usage = d->hugepages[i]->max_usage_bytes;
		e->key = d->hugepages[i]->page_size;
		e->value = h;
		g->hugetlb_stats[g->n_hugetlb_stats++] = e;
	}
	return g->hugetlb_stats ? 0 : -1;
}

struct io_list {
	Grpc__BlkioStatsEntry **entries;
	size_t n;
};

static int io_add(struct arena *a, struct io_list *l, const Bulkhead__DeviceUsage *d, const char *op, uint64_t value) {
	Grpc__BlkioStatsEntry *e = ARENA_NEW(a, Grpc__BlkioStatsEntry, GRPC__BLKIO_STATS_ENTRY__INIT);
	if (!e)
		return -1;
	e->major = d->major;
	e->minor = d->minor;
	e->op = (char *)(uintptr_t)op;
	e->value = value;
	l->entries[l->n++] = e;
	return 0;
}

/* On v2 all is in the first list, under names of its own. */
static int devices(struct arena *a, const Bulkhead__TaskStats *s, Grpc__BlkioStats *io) {
	static const char *const words[2][4] = { { "Read", "Write", "Read", "Write" },
						 { "read", "write", "rios", "wios" } };
	const Bulkhead__TaskDetail *d = s->detail;
	struct io_list bytes = { arena_alloc(a, (4 * d->n_devices + 1) * sizeof(*bytes.entries)), 0 };
	struct io_list calls = { arena_alloc(a, (2 * d->n_devices + 1) * sizeof(*calls.entries)), 0 };
	const char *const *word = words[s->unified];
	if (!bytes.entries || !calls.entries)
		return -1;
	for (size_t i = 0; i < d->n_devices; i++) {
		const Bulkhead__DeviceUsage *from = d->devices[i];
		struct io_list *counts = s->unified ? &bytes : &calls;
		if (io_add(a, &bytes, from, word[0], from->read_bytes) < 0 ||
		    io_add(a, &bytes, from, word[1], from->write_bytes) < 0 ||
		    io_add(a, counts, from, word[2], from->reads) < 0 ||
		    io_add(a, counts, from, word[3], from->writes) < 0)
			return -1;
	}
	io->io_service_bytes_recursive = bytes.entries;
	io->n_io_service_bytes_recursive = bytes.n;
	io->io_serviced_recursive = calls.entries;
	io->n_io_serviced_recursive = calls.n;
	return 0;
}

/* --- the call --------------------------------------------------------------- */

static int stats(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		 struct fault *fault) {
	Bulkhead__CtaskMetricsRequest *m =
	    ARENA_NEW(t->arena, Bulkhead__CtaskMetricsRequest, BULKHEAD__CTASK_METRICS_REQUEST__INIT);
	char **id = arena_alloc(t->arena, sizeof(*id));
	if (!m || !id)
		return grpc_no_memory(fault);
	*id = ((const Grpc__StatsContainerRequest *)request)->container_id;
	m->namespace_ = (char *)AGENT_NAMESPACE;
	m->container_ids = id;
	m->n_container_ids = 1;
	*ret_internal = &m->base;
	return 0;
}

static int stats_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		       struct fault *fault) {
	const Bulkhead__CtaskMetrics *l = (const Bulkhead__CtaskMetrics *)internal;
	if (l->n_stats == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "stats: no container of that id has a process");
	const Bulkhead__TaskStats *s = l->stats[0];
	struct parts *p = parts_new(t->arena);
	if (!p || memory_lines(t->arena, s, &p->memory) < 0 || each_cpu(t->arena, s, &p->usage) < 0 ||
	    (s->detail && (hugepages(t->arena, s->detail, &p->group) < 0 || devices(t->arena, s, &p->io) < 0)))
		return grpc_no_memory(fault);
	if (s->unified)
		metric_put(p, places_v2, ARRAY_SIZE(places_v2), s);
	else
		metric_put(p, places_v1, ARRAY_SIZE(places_v1), s);
	limits_clear(p);
	if (s->unified)
		microseconds(p);
	*reply = &p->reply.base;
	return 0;
}

const struct grpc_translator agent_stats_container = {
	.request = stats,
	.reply = stats_reply,
	.failure = agent_unknown_container,
};
