/* io.containerd.cgroups.v1.Metrics. */
#include "workers/api/containerd/metrics.h"

#include "containerd/cgroups_v1.pb-c.h"

#include <string.h>

#define V1(name) Io__Containerd__Cgroups__V1__##name
#define V1_INIT(name) IO__CONTAINERD__CGROUPS__V1__##name##__INIT

/* Clients look into every part without asking whether it is there. */
struct v1 {
	V1(Metrics) metrics;
	V1(PidsStat) pids;
	V1(CPUStat) cpu;
	V1(CPUUsage) usage;
	V1(Throttle) throttle;
	V1(MemoryStat) memory;
	V1(MemoryEntry) ram, swap, kernel, tcp;
	V1(MemoryOomControl) oom;
	V1(BlkIOStat) io;
};

#define MEMORY_V1(line, field)                                                       \
	{ "memory.stat/" line, offsetof(struct v1, memory.field) }, {                \
		"memory.stat/total_" line, offsetof(struct v1, memory.total_##field) \
	}
#define ENTRY_V1(prefix, part)                                                 \
	{ prefix ".limit_in_bytes", offsetof(struct v1, part.limit) },         \
	    { prefix ".usage_in_bytes", offsetof(struct v1, part.usage) },     \
	    { prefix ".max_usage_in_bytes", offsetof(struct v1, part.max) }, { \
		prefix ".failcnt", offsetof(struct v1, part.failcnt)           \
	}

static const struct metric_place places_v1[] = {
	{ "pids.current", offsetof(struct v1, pids.current) },
	{ "pids.max", offsetof(struct v1, pids.limit) },
	{ "cpuacct.usage", offsetof(struct v1, usage.total) },
	{ "cpuacct.usage_sys", offsetof(struct v1, usage.kernel) },
	{ "cpuacct.usage_user", offsetof(struct v1, usage.user) },
	{ "cpu.stat/nr_periods", offsetof(struct v1, throttle.periods) },
	{ "cpu.stat/nr_throttled", offsetof(struct v1, throttle.throttled_periods) },
	{ "cpu.stat/throttled_time", offsetof(struct v1, throttle.throttled_time) },
	MEMORY_V1("cache", cache),
	MEMORY_V1("rss", rss),
	MEMORY_V1("rss_huge", rss_huge),
	MEMORY_V1("mapped_file", mapped_file),
	MEMORY_V1("dirty", dirty),
	MEMORY_V1("writeback", writeback),
	MEMORY_V1("pgpgin", pg_pg_in),
	MEMORY_V1("pgpgout", pg_pg_out),
	MEMORY_V1("pgfault", pg_fault),
	MEMORY_V1("pgmajfault", pg_maj_fault),
	MEMORY_V1("inactive_anon", inactive_anon),
	MEMORY_V1("active_anon", active_anon),
	MEMORY_V1("inactive_file", inactive_file),
	MEMORY_V1("active_file", active_file),
	MEMORY_V1("unevictable", unevictable),
	{ "memory.stat/hierarchical_memory_limit", offsetof(struct v1, memory.hierarchical_memory_limit) },
	{ "memory.stat/hierarchical_memsw_limit", offsetof(struct v1, memory.hierarchical_swap_limit) },
	ENTRY_V1("memory", ram),
	ENTRY_V1("memory.memsw", swap),
	ENTRY_V1("memory.kmem", kernel),
	ENTRY_V1("memory.kmem.tcp", tcp),
	{ "memory.oom_control/oom_kill_disable", offsetof(struct v1, oom.oom_kill_disable) },
	{ "memory.oom_control/under_oom", offsetof(struct v1, oom.under_oom) },
	{ "memory.oom_control/oom_kill", offsetof(struct v1, oom.oom_kill) },
};

/* In the kernel's order, which is that of the CPUs. */
static int each_cpu(struct grpc_translation *t, const Bulkhead__TaskStats *s, V1(CPUUsage) * usage) {
	static const char file[] = "cpuacct.usage_percpu/";
	usage->per_cpu = arena_alloc(t->arena, (s->n_figures + 1) * sizeof(*usage->per_cpu));
	for (size_t i = 0; usage->per_cpu && i < s->n_figures; i++)
		if (strncmp(s->figures[i]->name, file, sizeof(file) - 1) == 0)
			usage->per_cpu[usage->n_per_cpu++] = s->figures[i]->value;
	return usage->per_cpu ? 0 : -1;
}

static V1(BlkIOEntry) *
    io_entry(struct grpc_translation *t, const Bulkhead__DeviceUsage *d, const char *op, uint64_t value) {
	V1(BlkIOEntry) *e = ARENA_NEW(t->arena, V1(BlkIOEntry), V1_INIT(BLK_IOENTRY));
	if (e) {
		e->op = (char *)(uintptr_t)op;
		e->major = d->major;
		e->minor = d->minor;
		e->value = value;
	}
	return e;
}

static int io_v1(struct grpc_translation *t, const Bulkhead__TaskDetail *d, V1(BlkIOStat) * io) {
	V1(BlkIOEntry) **bytes = arena_alloc(t->arena, (2 * d->n_devices + 1) * sizeof(*bytes)),
		       **calls = arena_alloc(t->arena, (2 * d->n_devices + 1) * sizeof(*calls));
	if (!bytes || !calls)
		return -1;
	for (size_t i = 0; i < d->n_devices; i++) {
		const Bulkhead__DeviceUsage *from = d->devices[i];
		if (!(bytes[2 * i] = io_entry(t, from, "Read", from->read_bytes)) ||
		    !(bytes[2 * i + 1] = io_entry(t, from, "Write", from->write_bytes)) ||
		    !(calls[2 * i] = io_entry(t, from, "Read", from->reads)) ||
		    !(calls[2 * i + 1] = io_entry(t, from, "Write", from->writes)))
			return -1;
	}
	io->io_service_bytes_recursive = bytes;
	io->io_serviced_recursive = calls;
	io->n_io_service_bytes_recursive = io->n_io_serviced_recursive = 2 * d->n_devices;
	return 0;
}

static int hugepages_v1(struct grpc_translation *t, const Bulkhead__TaskDetail *d, V1(Metrics) * m) {
	m->hugetlb = arena_alloc(t->arena, (d->n_hugepages + 1) * sizeof(*m->hugetlb));
	for (; m->hugetlb && m->n_hugetlb < d->n_hugepages; m->n_hugetlb++) {
		V1(HugetlbStat) *h = ARENA_NEW(t->arena, V1(HugetlbStat), V1_INIT(HUGETLB_STAT));
		if (!h)
			return -1;
		h->pagesize = d->hugepages[m->n_hugetlb]->page_size;
		h->usage = d->hugepages[m->n_hugetlb]->usage_bytes;
		h->max = d->hugepages[m->n_hugetlb]->max_usage_bytes;
		m->hugetlb[m->n_hugetlb] = h;
	}
	return m->hugetlb ? 0 : -1;
}

Google__Protobuf__Any *metrics_v1(struct grpc_translation *t, const Bulkhead__TaskStats *s) {
	struct v1 *m = arena_alloc(t->arena, sizeof(*m));
	if (!m)
		return NULL;
	*m = (struct v1){
		.metrics = V1_INIT(METRICS),
		.pids = V1_INIT(PIDS_STAT),
		.cpu = V1_INIT(CPUSTAT),
		.usage = V1_INIT(CPUUSAGE),
		.throttle = V1_INIT(THROTTLE),
		.memory = V1_INIT(MEMORY_STAT),
		.ram = V1_INIT(MEMORY_ENTRY),
		.swap = V1_INIT(MEMORY_ENTRY),
		.kernel = V1_INIT(MEMORY_ENTRY),
		.tcp = V1_INIT(MEMORY_ENTRY),
		.oom = V1_INIT(MEMORY_OOM_CONTROL),
		.io = V1_INIT(BLK_IOSTAT),
	};
	m->metrics.pids = &m->pids;
	m->metrics.cpu = &m->cpu;
	m->cpu.usage = &m->usage;
	m->cpu.throttling = &m->throttle;
	m->metrics.memory = &m->memory;
	m->memory.usage = &m->ram;
	m->memory.swap = &m->swap;
	m->memory.kernel = &m->kernel;
	m->memory.kernel_tcp = &m->tcp;
	m->metrics.memory_oom_control = &m->oom;
	m->metrics.blkio = &m->io;
	metric_put(m, places_v1, ARRAY_SIZE(places_v1), s);
	if (m->pids.limit == UINT64_MAX)
		m->pids.limit = 0; /* as clients of v1 know "max" */
	if (each_cpu(t, s, &m->usage) < 0 ||
	    (s->detail && (io_v1(t, s->detail, &m->io) < 0 || hugepages_v1(t, s->detail, &m->metrics) < 0)))
		return NULL;
	return metric_pack(t, "io.containerd.cgroups.v1.Metrics", &m->metrics.base);
}
