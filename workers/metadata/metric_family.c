#include "workers/metadata/metric_family.h"

#include "base/clock.h"
#include "workers/metadata/view.h"
#include "workers/metadata/view_stats.h"

#include <inttypes.h>
#include <string.h>

const char *const metric_base_labels[METRIC_BASE_LABELS] = { "container", "id", "image", "name", "namespace", "pod" };

/* --- families whose values aren't one field --------------------------------- */

static void cpu_usage(struct metric_set *s, const struct metric_family *f) {
	static const char *const total[] = { "total" };
	metric_add(s, f, s->stats->cpu_usage_ns / (uint64_t)NS_PER_SEC, total);
}

/* What is in the group, of which there is one: scope container is the same as
 * hierarchy. */
static void memory_failures(struct metric_set *s, const struct metric_family *f) {
	static const char *const scopes[] = { "container", "hierarchy" };
	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
		const char *minor[] = { "pgfault", scopes[i] }, *major[] = { "pgmajfault", scopes[i] };
		metric_add(s, f, s->stats->memory_page_faults, minor);
		metric_add(s, f, s->stats->memory_major_page_faults, major);
	}
}

static void hugepages_usage(struct metric_set *s, const struct metric_family *f) {
	for (size_t i = 0; i < s->stats->detail->n_hugepages; i++) {
		const char *size[] = { s->stats->detail->hugepages[i]->page_size };
		metric_add(s, f, s->stats->detail->hugepages[i]->usage_bytes, size);
	}
}

static void hugepages_max(struct metric_set *s, const struct metric_family *f) {
	for (size_t i = 0; i < s->stats->detail->n_hugepages; i++) {
		const char *size[] = { s->stats->detail->hugepages[i]->page_size };
		metric_add(s, f, s->stats->detail->hugepages[i]->max_usage_bytes, size);
	}
}

static void device(struct metric_set *s, const struct metric_family *f, const Bulkhead__DeviceUsage *d,
		   const char *operation, uint64_t value) {
	const char *major = arena_printf(s->arena, "%u", d->major), *minor = arena_printf(s->arena, "%u", d->minor);
	const char *name = arena_printf(s->arena, "%u:%u", d->major, d->minor);
	const char *labels[] = { name, major, minor, operation };
	if (name && major && minor)
		metric_add(s, f, value, labels);
}

static void blkio(struct metric_set *s, const struct metric_family *f) {
	for (size_t i = 0; i < s->stats->detail->n_devices; i++) {
		const Bulkhead__DeviceUsage *d = s->stats->detail->devices[i];
		device(s, f, d, "Read", d->read_bytes);
		device(s, f, d, "Write", d->write_bytes);
	}
}

/* The four of reads and writes differ by the field only. */
static void disk(struct metric_set *s, const struct metric_family *f) {
	for (size_t i = 0; i < s->stats->detail->n_devices; i++) {
		const Bulkhead__DeviceUsage *d = s->stats->detail->devices[i];
		const char *name[] = { arena_printf(s->arena, "%u:%u", d->major, d->minor) };
		if (name[0])
			metric_add(s, f, *(const uint64_t *)((const char *)d + f->offset), name);
	}
}

static void fs_usage(struct metric_set *s, const struct metric_family *f) {
	static const char *const none[] = { "" };
	metric_add(s, f, s->c->usage_size, none);
}

static void fs_limit(struct metric_set *s, const struct metric_family *f) {
	static const char *const none[] = { "" };
	metric_add(s, f, s->m->fs.size, none);
}

static void fs_inodes(struct metric_set *s, const struct metric_family *f) {
	static const char *const none[] = { "" };
	metric_add(s, f, s->m->fs.inodes, none);
}

static void fs_inodes_free(struct metric_set *s, const struct metric_family *f) {
	static const char *const none[] = { "" };
	metric_add(s, f, s->m->fs.inodes_free, none);
}

static void pressure(struct metric_set *s, const struct metric_family *f) {
	const Bulkhead__Pressure *p = *(Bulkhead__Pressure *const *)((const char *)s->stats + f->offset);
	const Bulkhead__PressureLine *l = !p ? NULL : strstr(f->name, "stalled") ? p->full : p->some;
	if (l)
		metric_add(s, f, l->total_us / 1000000, NULL);
}

static void last_seen(struct metric_set *s, const struct metric_family *f) {
	metric_add(s, f, (uint64_t)(s->now / NS_PER_SEC), NULL);
}

static void start_time(struct metric_set *s, const struct metric_family *f) {
	metric_add(s, f, s->c->record->task ? (uint64_t)(s->c->record->task->started_at / NS_PER_SEC) : 0, NULL);
}

static void nothing(struct metric_set *s, const struct metric_family *f) {
	metric_add(s, f, 0, NULL);
}

static void ulimits(struct metric_set *s, const struct metric_family *f) {
	static const char *const files[] = { "max_open_files" };
	metric_add(s, f, s->stats->detail->files_soft_limit, files);
}

/* --- the table -------------------------------------------------------------- */

#define COUNTER .type = RUNTIME__V1__METRIC_TYPE__COUNTER
#define GAUGE .type = RUNTIME__V1__METRIC_TYPE__GAUGE
#define STATS(field) .source = METRIC_STATS, .offset = offsetof(Bulkhead__TaskStats, field)
#define DETAIL(field) .source = METRIC_DETAIL, .offset = offsetof(Bulkhead__TaskDetail, field)
#define SPEC(field) .source = METRIC_SPEC, .offset = offsetof(Runtime__V1__LinuxContainerResources, field)
#define NETWORK(field)                                                \
	COUNTER, .labels = { "interface" }, .source = METRIC_NETWORK, \
		 .offset = offsetof(Bulkhead__InterfaceUsage, field)
#define DISK(field) COUNTER, .labels = { "device" }, .add = disk, .offset = offsetof(Bulkhead__DeviceUsage, field)
#define PRESSURE(field) COUNTER, .add = pressure, .offset = offsetof(Bulkhead__TaskStats, field)
#define SECONDS .divisor = (uint64_t)NS_PER_SEC

const struct metric_family metric_families[] = {
	{ "container_blkio_device_usage_total", "Bytes read from and written to block devices", COUNTER,
	  .labels = { "device", "major", "minor", "operation" }, .add = blkio },
	{ "container_cpu_cfs_periods_total", "Elapsed enforcement periods of the CPU quota", COUNTER,
	  DETAIL(cpu_periods) },
	{ "container_cpu_cfs_throttled_periods_total", "Periods in which the container was throttled", COUNTER,
	  DETAIL(cpu_throttled_periods) },
	{ "container_cpu_cfs_throttled_seconds_total", "Time for which the container was throttled", COUNTER,
	  DETAIL(cpu_throttled_ns), SECONDS },
	{ "container_cpu_system_seconds_total", "CPU time spent in the kernel", COUNTER, DETAIL(cpu_system_ns),
	  SECONDS },
	{ "container_cpu_usage_seconds_total", "CPU time", COUNTER, .labels = { "cpu" }, .add = cpu_usage },
	{ "container_cpu_user_seconds_total", "CPU time spent outside of the kernel", COUNTER, DETAIL(cpu_user_ns),
	  SECONDS },
	{ "container_file_descriptors", "Open file descriptors of all processes", GAUGE, DETAIL(file_descriptors) },
	{ "container_fs_inodes_free", "Free inodes of the file system", GAUGE, .labels = { "device" },
	  .add = fs_inodes_free },
	{ "container_fs_inodes_total", "Inodes of the file system", GAUGE, .labels = { "device" }, .add = fs_inodes },
	{ "container_fs_limit_bytes", "Size of the file system", GAUGE, .labels = { "device" }, .add = fs_limit },
	{ "container_fs_reads_bytes_total", "Bytes read", DISK(read_bytes) },
	{ "container_fs_reads_total", "Reads completed", DISK(reads) },
	{ "container_fs_usage_bytes", "Bytes in the writable layer", GAUGE, .labels = { "device" }, .add = fs_usage },
	{ "container_fs_writes_bytes_total", "Bytes written", DISK(write_bytes) },
	{ "container_fs_writes_total", "Writes completed", DISK(writes) },
	{ "container_hugetlb_max_usage_bytes", "Most bytes in huge pages so far", GAUGE, .labels = { "pagesize" },
	  .add = hugepages_max },
	{ "container_hugetlb_usage_bytes", "Bytes in huge pages", GAUGE, .labels = { "pagesize" },
	  .add = hugepages_usage },
	{ "container_last_seen", "When the container was last seen, in seconds since the epoch", GAUGE,
	  .add = last_seen },
	{ "container_memory_cache", "Bytes of page cache", GAUGE, DETAIL(memory_cache_bytes) },
	{ "container_memory_failcnt", "How often the memory limit was hit", COUNTER, DETAIL(memory_limit_hits) },
	{ "container_memory_failures_total", "Page faults", COUNTER, .labels = { "failure_type", "scope" },
	  .add = memory_failures },
	{ "container_memory_kernel_usage", "Bytes of memory that the kernel uses for the container", GAUGE,
	  DETAIL(memory_kernel_bytes) },
	{ "container_memory_mapped_file", "Bytes of mapped files", GAUGE, DETAIL(memory_mapped_bytes) },
	{ "container_memory_max_usage_bytes", "Most bytes of memory so far", GAUGE, DETAIL(memory_max_usage_bytes) },
	{ "container_memory_rss", "Bytes of anonymous memory", GAUGE, STATS(memory_rss_bytes) },
	{ "container_memory_swap", "Bytes in swap", GAUGE, STATS(memory_swap_bytes) },
	{ "container_memory_usage_bytes", "Bytes of memory, whenever it was used", GAUGE, STATS(memory_usage_bytes) },
	{ "container_memory_working_set_bytes", "Bytes of memory without idle page cache", GAUGE,
	  STATS(memory_working_set_bytes) },
	{ "container_network_receive_bytes_total", "Bytes received", NETWORK(rx_bytes) },
	{ "container_network_receive_errors_total", "Errors while receiving", NETWORK(rx_errors) },
	{ "container_network_receive_packets_dropped_total", "Packets dropped while receiving", NETWORK(rx_dropped) },
	{ "container_network_receive_packets_total", "Packets received", NETWORK(rx_packets) },
	{ "container_network_transmit_bytes_total", "Bytes sent", NETWORK(tx_bytes) },
	{ "container_network_transmit_errors_total", "Errors while sending", NETWORK(tx_errors) },
	{ "container_network_transmit_packets_dropped_total", "Packets dropped while sending", NETWORK(tx_dropped) },
	{ "container_network_transmit_packets_total", "Packets sent", NETWORK(tx_packets) },
	{ "container_oom_events_total", "Processes killed for want of memory", COUNTER, DETAIL(oom_kills) },
	{ "container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU",
	  PRESSURE(cpu_pressure) },
	{ "container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU",
	  PRESSURE(cpu_pressure) },
	{ "container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for I/O",
	  PRESSURE(io_pressure) },
	{ "container_pressure_io_waiting_seconds_total", "Time in which some task waited for I/O",
	  PRESSURE(io_pressure) },
	{ "container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory",
	  PRESSURE(memory_pressure) },
	{ "container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory",
	  PRESSURE(memory_pressure) },
	{ "container_processes", "Processes", GAUGE, DETAIL(processes) },
	{ "container_sockets", "Open sockets of all processes", GAUGE, DETAIL(sockets) },
	{ "container_spec_cpu_period", "Period of the CPU quota in microseconds", GAUGE, SPEC(cpu_period) },
	{ "container_spec_cpu_quota", "CPU quota in microseconds per period", GAUGE, SPEC(cpu_quota) },
	{ "container_spec_cpu_shares", "CPU shares", GAUGE, SPEC(cpu_shares) },
	{ "container_spec_memory_limit_bytes", "Memory limit, 0: none", GAUGE, SPEC(memory_limit_in_bytes) },
	{ "container_spec_memory_reservation_limit_bytes", "Memory reservation, which the CRI has no field for: 0",
	  GAUGE, .add = nothing },
	{ "container_spec_memory_swap_limit_bytes", "Limit of memory and swap together, 0: none", GAUGE,
	  SPEC(memory_swap_limit_in_bytes) },
	{ "container_start_time_seconds", "When the container was started, in seconds since the epoch", GAUGE,
	  .add = start_time },
	{ "container_threads", "Threads", GAUGE, DETAIL(threads) },
	{ "container_threads_max", "Most threads allowed, 0: any number", GAUGE, DETAIL(threads_max) },
	{ "container_ulimits_soft", "Soft resource limits of the first process", GAUGE, .labels = { "ulimit" },
	  .add = ulimits },
	{ 0 },
};

/* --- adding ----------------------------------------------------------------- */

static bool set_grow(struct metric_set *s) {
	if (s->n < s->room)
		return true;
	size_t room = s->room ? s->room * 2 : 128;
	Runtime__V1__Metric **list = arena_alloc(s->arena, room * sizeof(*list));
	if (!list)
		return false;
	if (s->n)
		memcpy(list, s->list, s->n * sizeof(*list));
	s->list = list;
	s->room = room;
	return true;
}

void metric_add(struct metric_set *s, const struct metric_family *f, uint64_t value, const char *const *labels) {
	Runtime__V1__Metric *v = ARENA_NEW(s->arena, Runtime__V1__Metric, RUNTIME__V1__METRIC__INIT);
	char **all = arena_alloc(s->arena, METRIC_LABELS_MAX * sizeof(*all));
	if (!v || !all || !set_grow(s))
		return;
	v->name = (char *)(uintptr_t)f->name;
	v->timestamp = s->now;
	v->metric_type = f->type;
	v->value = view_number(s->arena, value);
	v->label_values = all;
	for (size_t i = 0; i < METRIC_BASE_LABELS; i++)
		all[v->n_label_values++] = s->base[i];
	for (size_t i = 0; f->labels[i]; i++)
		all[v->n_label_values++] = (char *)(uintptr_t)labels[i];
	s->list[s->n++] = v;
}

static uint64_t field(const void *message, const struct metric_family *f) {
	uint64_t value = *(const uint64_t *)((const char *)message + f->offset);
	return value / (f->divisor ? f->divisor : 1);
}

static uint64_t spec_field(const struct container *c, const struct metric_family *f) {
	const Runtime__V1__LinuxContainerConfig *l = c->record->config->linux;
	if (!l || !l->resources || *(const int64_t *)((const char *)l->resources + f->offset) < 0)
		return 0;
	return field(l->resources, f);
}

void metric_add_container(struct metric_set *s) {
	for (const struct metric_family *f = metric_families; f->name; f++)
		switch (f->source) {
		case METRIC_BY_FUNCTION:
			f->add(s, f);
			break;
		case METRIC_STATS:
			metric_add(s, f, field(s->stats, f), NULL);
			break;
		case METRIC_DETAIL:
			metric_add(s, f, field(s->stats->detail, f), NULL);
			break;
		case METRIC_SPEC:
			metric_add(s, f, spec_field(s->c, f), NULL);
			break;
		case METRIC_NETWORK:
			break;
		}
}

void metric_add_network(struct metric_set *s, const Bulkhead__InterfaceUsage *i) {
	const char *name[] = { i->name };
	for (const struct metric_family *f = metric_families; f->name; f++)
		if (f->source == METRIC_NETWORK)
			metric_add(s, f, field(i, f), name);
}
