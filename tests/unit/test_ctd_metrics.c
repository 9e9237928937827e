/* Figures as containerd's messages of either version of control groups. */
#include "workers/api/containerd/metrics.h"

#include "containerd/cgroups_v1.pb-c.h"
#include "containerd/cgroups_v2.pb-c.h"
#include "containerd/tasks.pb-c.h"
#include "tests/unit/tap.h"

#include <string.h>

typedef Io__Containerd__Cgroups__V1__Metrics V1;
typedef Io__Containerd__Cgroups__V2__Metrics V2;

static Bulkhead__KernelFigure figures[] = {
	{ .name = (char *)"pids.max", .value = UINT64_MAX },
	{ .name = (char *)"pids.current", .value = 3 },
	{ .name = (char *)"memory.stat/total_cache", .value = 10 },
	{ .name = (char *)"memory.stat/anon", .value = 11 },
	{ .name = (char *)"memory.max", .value = 12 },
	{ .name = (char *)"memory.memsw.limit_in_bytes", .value = 13 },
	{ .name = (char *)"cpuacct.usage_percpu/0", .value = 14 },
	{ .name = (char *)"cpuacct.usage_percpu/1", .value = 15 },
	{ .name = (char *)"cpu.stat/usage_usec", .value = 16 },
	{ .name = (char *)"memory.events/oom_kill", .value = 17 },
	{ .name = (char *)"memory.stat/of_tomorrow", .value = 18 },
};

/* What the reply of one task has in its Any. */
static Google__Protobuf__Any *any_of(struct arena *a, bool unified) {
	static Bulkhead__KernelFigure *list[ARRAY_SIZE(figures)];
	static Bulkhead__TaskStats stats;
	static Bulkhead__TaskStats *all[] = { &stats };
	static Bulkhead__Pressure pressure;
	static Bulkhead__PressureLine line;
	static Bulkhead__TaskDetail detail;
	static Bulkhead__DeviceUsage device, *devices[] = { &device };
	static Bulkhead__HugepageUsage huge, *hugepages[] = { &huge };
	Bulkhead__CtaskMetrics m = BULKHEAD__CTASK_METRICS__INIT;
	struct grpc_translation t = { .arena = a, .kept = a };
	struct fault fault;
	Containerd__Services__Tasks__V1__MetricsResponse empty =
	    CONTAINERD__SERVICES__TASKS__V1__METRICS_RESPONSE__INIT;
	ProtobufCMessage *reply = &empty.base;
	for (size_t i = 0; i < ARRAY_SIZE(figures); i++)
		list[i] = &figures[i];
	bulkhead__task_stats__init(&stats);
	bulkhead__pressure__init(&pressure);
	bulkhead__pressure_line__init(&line);
	bulkhead__task_detail__init(&detail);
	bulkhead__device_usage__init(&device);
	bulkhead__hugepage_usage__init(&huge);
	line.total_us = 5;
	pressure.some = &line;
	device.major = 8;
	device.write_bytes = 4096;
	huge.page_size = (char *)"2MB";
	huge.usage_bytes = 2 << 20;
	detail.devices = devices;
	detail.n_devices = detail.n_hugepages = 1;
	detail.hugepages = hugepages;
	stats.container_id = (char *)"web";
	stats.timestamp = 1000000001;
	stats.unified = unified;
	stats.figures = list;
	stats.n_figures = ARRAY_SIZE(list);
	stats.io_pressure = &pressure;
	stats.detail = &detail;
	m.stats = all;
	m.n_stats = 1;
	if (ctd_metrics.reply(&t, &m.base, &reply, &fault) < 0)
		return NULL;
	const Containerd__Services__Tasks__V1__MetricsResponse *r =
	    (const Containerd__Services__Tasks__V1__MetricsResponse *)reply;
	tap_check(r->n_metrics == 1 && strcmp(r->metrics[0]->id, "web") == 0 &&
		      r->metrics[0]->timestamp->seconds == 1 && r->metrics[0]->timestamp->nanos == 1,
		  "a task's figures have its id and their time");
	return r->metrics[0]->data;
}

static void test_v1(struct arena *a) {
	const Google__Protobuf__Any *any = any_of(a, false);
	V1 *m = io__containerd__cgroups__v1__metrics__unpack(NULL, any->value.len, any->value.data);
	tap_check(strcmp(any->type_url, "io.containerd.cgroups.v1.Metrics") == 0 && m, "v1: its type");
	tap_check(m->pids->current == 3 && m->pids->limit == 0, "v1: no limit of pids is 0");
	tap_check(m->memory->total_cache == 10 && m->memory->swap->limit == 13, "v1: memory, memory and swap");
	tap_check(m->cpu->usage->n_per_cpu == 2 && m->cpu->usage->per_cpu[1] == 15, "v1: each CPU");
	tap_check(m->blkio->n_io_service_bytes_recursive == 2 &&
		      strcmp(m->blkio->io_service_bytes_recursive[1]->op, "Write") == 0 &&
		      m->blkio->io_service_bytes_recursive[1]->value == 4096,
		  "v1: devices");
	tap_check(m->n_hugetlb == 1 && m->hugetlb[0]->usage == 2 << 20, "v1: huge pages");
	tap_check(m->memory->kernel && m->memory->kernel_tcp && m->cpu->throttling && m->memory_oom_control,
		  "v1: parts are there that the kernel says nothing of");
	io__containerd__cgroups__v1__metrics__free_unpacked(m, NULL);
}

static void test_v2(struct arena *a) {
	const Google__Protobuf__Any *any = any_of(a, true);
	V2 *m = io__containerd__cgroups__v2__metrics__unpack(NULL, any->value.len, any->value.data);
	tap_check(strcmp(any->type_url, "io.containerd.cgroups.v2.Metrics") == 0 && m, "v2: its type");
	tap_check(m->pids->current == 3 && m->pids->limit == UINT64_MAX, "v2: no limit of pids is the largest number");
	tap_check(m->memory->anon == 11 && m->memory->usage_limit == 12, "v2: memory");
	tap_check(m->cpu->usage_usec == 16 && m->memory_events->oom_kill == 17, "v2: CPU, events");
	tap_check(m->io->n_usage == 1 && m->io->usage[0]->major == 8 && m->io->usage[0]->wbytes == 4096, "v2: devices");
	tap_check(m->io->psi && m->io->psi->some->total == 5 && !m->io->psi->full && !m->cpu->psi,
		  "v2: pressure where the kernel counts it");
	tap_check(m->n_hugetlb == 1 && m->hugetlb[0]->current == 2 << 20 && strcmp(m->hugetlb[0]->pagesize, "2MB") == 0,
		  "v2: huge pages");
	io__containerd__cgroups__v2__metrics__free_unpacked(m, NULL);
}

int main(void) {
	struct arena a;
	arena_init(&a, 0);
	test_v1(&a);
	test_v2(&a);
	arena_deinit(&a);
	return tap_done();
}
