/* io.containerd.cgroups.v2.Metrics. */
#include "workers/api/containerd/metrics.h"

#include "containerd/cgroups_v2.pb-c.h"

#define V2(name) Io__Containerd__Cgroups__V2__##name
#define V2_INIT(name) IO__CONTAINERD__CGROUPS__V2__##name##__INIT

struct v2 {
	V2(Metrics) metrics;
	V2(PidsStat) pids;
	V2(CPUStat) cpu;
	V2(MemoryStat) memory;
	V2(MemoryEvents) events;
	V2(RdmaStat) rdma;
	V2(IOStat) io;
};

#define MEMORY_V2(line) \
	{ "memory.stat/" #line, offsetof(struct v2, memory.line) }
#define EVENT_V2(line) \
	{ "memory.events/" #line, offsetof(struct v2, events.line) }
#define CPU_V2(line) \
	{ "cpu.stat/" #line, offsetof(struct v2, cpu.line) }

static const struct metric_place places_v2[] = {
	{ "pids.current", offsetof(struct v2, pids.current) },
	{ "pids.max", offsetof(struct v2, pids.limit) },
	CPU_V2(usage_usec),
	CPU_V2(user_usec),
	CPU_V2(system_usec),
	CPU_V2(nr_periods),
	CPU_V2(nr_throttled),
	CPU_V2(throttled_usec),
	CPU_V2(nr_bursts),
	CPU_V2(burst_usec),
	MEMORY_V2(anon),
	MEMORY_V2(file),
	MEMORY_V2(kernel_stack),
	MEMORY_V2(slab),
	MEMORY_V2(sock),
	MEMORY_V2(shmem),
	MEMORY_V2(file_mapped),
	MEMORY_V2(file_dirty),
	MEMORY_V2(file_writeback),
	{ "memory.stat/anon_thp", offsetof(struct v2, memory.anon_thp) },
	MEMORY_V2(inactive_anon),
	MEMORY_V2(active_anon),
	MEMORY_V2(inactive_file),
	MEMORY_V2(active_file),
	MEMORY_V2(unevictable),
	MEMORY_V2(slab_reclaimable),
	MEMORY_V2(slab_unreclaimable),
	MEMORY_V2(pgfault),
	MEMORY_V2(pgmajfault),
	MEMORY_V2(workingset_refault),
	MEMORY_V2(workingset_activate),
	MEMORY_V2(workingset_nodereclaim),
	MEMORY_V2(workingset_refault_anon),
	MEMORY_V2(workingset_refault_file),
	MEMORY_V2(workingset_activate_anon),
	MEMORY_V2(workingset_activate_file),
	MEMORY_V2(pgrefill),
	MEMORY_V2(pgscan),
	MEMORY_V2(pgsteal),
	MEMORY_V2(pgactivate),
	MEMORY_V2(pgdeactivate),
	MEMORY_V2(pglazyfree),
	MEMORY_V2(pglazyfreed),
	MEMORY_V2(thp_fault_alloc),
	MEMORY_V2(thp_collapse_alloc),
	{ "memory.current", offsetof(struct v2, memory.usage) },
	{ "memory.max", offsetof(struct v2, memory.usage_limit) },
	{ "memory.peak", offsetof(struct v2, memory.max_usage) },
	{ "memory.swap.current", offsetof(struct v2, memory.swap_usage) },
	{ "memory.swap.max", offsetof(struct v2, memory.swap_limit) },
	{ "memory.swap.peak", offsetof(struct v2, memory.swap_max_usage) },
	EVENT_V2(low),
	EVENT_V2(high),
	EVENT_V2(max),
	EVENT_V2(oom),
	EVENT_V2(oom_kill),
	EVENT_V2(oom_group_kill),
};

static V2(PSIData) * psi_line(struct grpc_translation *t, const Bulkhead__PressureLine *from) {
	V2(PSIData) *to = from ? ARENA_NEW(t->arena, V2(PSIData), V2_INIT(PSIDATA)) : NULL;
	if (to) {
		to->avg10 = from->avg10;
		to->avg60 = from->avg60;
		to->avg300 = from->avg300;
		to->total = from->total_us;
	}
	return to;
}

/* NULL where the kernel doesn't count it. */
static V2(PSIStats) * psi(struct grpc_translation *t, const Bulkhead__Pressure *from) {
	V2(PSIStats) *to = from ? ARENA_NEW(t->arena, V2(PSIStats), V2_INIT(PSISTATS)) : NULL;
	if (to) {
		to->some = psi_line(t, from->some);
		to->full = psi_line(t, from->full);
	}
	return to;
}

static int io_v2(struct grpc_translation *t, const Bulkhead__TaskDetail *d, V2(IOStat) * io) {
	io->usage = arena_alloc(t->arena, (d->n_devices + 1) * sizeof(*io->usage));
	for (; io->usage && io->n_usage < d->n_devices; io->n_usage++) {
		const Bulkhead__DeviceUsage *from = d->devices[io->n_usage];
		V2(IOEntry) *e = ARENA_NEW(t->arena, V2(IOEntry), V2_INIT(IOENTRY));
		if (!e)
			return -1;
		e->major = from->major;
		e->minor = from->minor;
		e->rbytes = from->read_bytes;
		e->wbytes = from->write_bytes;
		e->rios = from->reads;
		e->wios = from->writes;
		io->usage[io->n_usage] = e;
	}
	return io->usage ? 0 : -1;
}

static int hugepages_v2(struct grpc_translation *t, const Bulkhead__TaskDetail *d, V2(Metrics) * m) {
	m->hugetlb = arena_alloc(t->arena, (d->n_hugepages + 1) * sizeof(*m->hugetlb));
	for (; m->hugetlb && m->n_hugetlb < d->n_hugepages; m->n_hugetlb++) {
		V2(HugeTlbStat) *h = ARENA_NEW(t->arena, V2(HugeTlbStat), V2_INIT(HUGE_TLB_STAT));
		if (!h)
			return -1;
		h->pagesize = d->hugepages[m->n_hugetlb]->page_size;
		h->current = d->hugepages[m->n_hugetlb]->usage_bytes;
		m->hugetlb[m->n_hugetlb] = h;
	}
	return m->hugetlb ? 0 : -1;
}

Google__Protobuf__Any *metrics_v2(struct grpc_translation *t, const Bulkhead__TaskStats *s) {
	struct v2 *m = arena_alloc(t->arena, sizeof(*m));
	if (!m)
		return NULL;
	*m = (struct v2){
		.metrics = V2_INIT(METRICS),
		.pids = V2_INIT(PIDS_STAT),
		.cpu = V2_INIT(CPUSTAT),
		.memory = V2_INIT(MEMORY_STAT),
		.events = V2_INIT(MEMORY_EVENTS),
		.rdma = V2_INIT(RDMA_STAT),
		.io = V2_INIT(IOSTAT),
	};
	m->metrics.pids = &m->pids;
	m->metrics.cpu = &m->cpu;
	m->metrics.memory = &m->memory;
	m->metrics.memory_events = &m->events;
	m->metrics.rdma = &m->rdma;
	m->metrics.io = &m->io;
	metric_put(m, places_v2, ARRAY_SIZE(places_v2), s);
	m->cpu.psi = psi(t, s->cpu_pressure);
	m->memory.psi = psi(t, s->memory_pressure);
	m->io.psi = psi(t, s->io_pressure);
	if (s->detail && (io_v2(t, s->detail, &m->io) < 0 || hugepages_v2(t, s->detail, &m->metrics) < 0))
		return NULL;
	return metric_pack(t, "io.containerd.cgroups.v2.Metrics", &m->metrics.base);
}
