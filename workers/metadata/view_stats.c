#include "workers/metadata/view_stats.h"

#include "base/clock.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/view.h"

#include <string.h>

#define RATE_MIN NS_PER_SEC

Runtime__V1__UInt64Value *view_number(struct arena *a, uint64_t value) {
	Runtime__V1__UInt64Value *v = ARENA_NEW(a, Runtime__V1__UInt64Value, RUNTIME__V1__UINT64_VALUE__INIT);
	if (v)
		v->value = value;
	return v;
}

/* --- what pods and containers have in common -------------------------------- */

static Runtime__V1__PsiData *view_psi_line(struct arena *a, const Bulkhead__PressureLine *l) {
	Runtime__V1__PsiData *v = l ? ARENA_NEW(a, Runtime__V1__PsiData, RUNTIME__V1__PSI_DATA__INIT) : NULL;
	if (!v)
		return NULL;
	v->total = l->total_us;
	v->avg10 = l->avg10;
	v->avg60 = l->avg60;
	v->avg300 = l->avg300;
	return v;
}

static Runtime__V1__PsiStats *view_psi(struct arena *a, const Bulkhead__Pressure *p) {
	Runtime__V1__PsiStats *v = p ? ARENA_NEW(a, Runtime__V1__PsiStats, RUNTIME__V1__PSI_STATS__INIT) : NULL;
	if (!v)
		return NULL;
	v->some = view_psi_line(a, p->some);
	v->full = view_psi_line(a, p->full);
	return v;
}

/* The rate is that since last, which becomes this sample once it is old enough:
 * until then who asks more often, or besides another, gets the rate before. */
static void cpu_rate(struct cpu_sample *last, const Bulkhead__TaskStats *t) {
	bool old = !last->at || t->timestamp >= last->at + RATE_MIN || t->timestamp < last->at;
	if (last->at && t->timestamp > last->at && t->cpu_usage_ns >= last->ns && (old || !last->rated)) {
		last->nano_cores =
		    (uint64_t)((double)(t->cpu_usage_ns - last->ns) * 1e9 / (double)(t->timestamp - last->at));
		last->rated = true;
	}
	if (old) {
		last->at = t->timestamp;
		last->ns = t->cpu_usage_ns;
	}
}

static Runtime__V1__CpuUsage *view_cpu(struct arena *a, struct cpu_sample *last, const Bulkhead__TaskStats *t) {
	Runtime__V1__CpuUsage *v = ARENA_NEW(a, Runtime__V1__CpuUsage, RUNTIME__V1__CPU_USAGE__INIT);
	if (!v)
		return NULL;
	v->timestamp = t->timestamp;
	v->usage_core_nano_seconds = view_number(a, t->cpu_usage_ns);
	cpu_rate(last, t);
	if (last->rated)
		v->usage_nano_cores = view_number(a, last->nano_cores);
	v->psi = view_psi(a, t->cpu_pressure);
	return v;
}

static Runtime__V1__MemoryUsage *view_memory(struct arena *a, const Bulkhead__TaskStats *t) {
	Runtime__V1__MemoryUsage *v = ARENA_NEW(a, Runtime__V1__MemoryUsage, RUNTIME__V1__MEMORY_USAGE__INIT);
	if (!v)
		return NULL;
	v->timestamp = t->timestamp;
	v->working_set_bytes = view_number(a, t->memory_working_set_bytes);
	v->usage_bytes = view_number(a, t->memory_usage_bytes);
	v->rss_bytes = view_number(a, t->memory_rss_bytes);
	v->page_faults = view_number(a, t->memory_page_faults);
	v->major_page_faults = view_number(a, t->memory_major_page_faults);
	if (t->memory_limit_bytes > t->memory_working_set_bytes)
		v->available_bytes = view_number(a, t->memory_limit_bytes - t->memory_working_set_bytes);
	v->psi = view_psi(a, t->memory_pressure);
	return v;
}

static Runtime__V1__IoUsage *view_io(struct arena *a, const Bulkhead__TaskStats *t) {
	Runtime__V1__IoUsage *v = t->io_pressure ? ARENA_NEW(a, Runtime__V1__IoUsage, RUNTIME__V1__IO_USAGE__INIT)
						 : NULL;
	if (!v)
		return NULL;
	v->timestamp = t->timestamp;
	v->psi = view_psi(a, t->io_pressure);
	return v;
}

/* --- containers ------------------------------------------------------------- */

static Runtime__V1__SwapUsage *view_swap(struct arena *a, const Bulkhead__TaskStats *t) {
	Runtime__V1__SwapUsage *v = ARENA_NEW(a, Runtime__V1__SwapUsage, RUNTIME__V1__SWAP_USAGE__INIT);
	if (!v)
		return NULL;
	v->timestamp = t->timestamp;
	v->swap_usage_bytes = view_number(a, t->memory_swap_bytes);
	return v;
}

static Runtime__V1__FilesystemUsage *view_disk(struct metadata *m, struct arena *a, const struct container *c) {
	Runtime__V1__FilesystemIdentifier *id =
	    ARENA_NEW(a, Runtime__V1__FilesystemIdentifier, RUNTIME__V1__FILESYSTEM_IDENTIFIER__INIT);
	Runtime__V1__FilesystemUsage *v =
	    ARENA_NEW(a, Runtime__V1__FilesystemUsage, RUNTIME__V1__FILESYSTEM_USAGE__INIT);
	if (!id || !v)
		return NULL;
	id->mountpoint = m->info ? m->info->mountpoint : (char *)"";
	v->timestamp = clock_real();
	v->fs_id = id;
	v->used_bytes = view_number(a, c->usage_size);
	v->inodes_used = view_number(a, c->usage_inodes);
	return v;
}

Runtime__V1__ContainerStats *view_container_stats(struct gathering *g, struct container *c) {
	struct arena *a = &g->arena;
	Runtime__V1__ContainerStats *v = ARENA_NEW(a, Runtime__V1__ContainerStats, RUNTIME__V1__CONTAINER_STATS__INIT);
	Runtime__V1__ContainerAttributes *at =
	    ARENA_NEW(a, Runtime__V1__ContainerAttributes, RUNTIME__V1__CONTAINER_ATTRIBUTES__INIT);
	const Runtime__V1__ContainerConfig *config = c->record->config;
	if (!v || !at)
		return NULL;
	at->id = c->record->id;
	at->metadata = config->metadata;
	at->n_labels = config->n_labels;
	at->labels = (void *)config->labels;
	at->n_annotations = config->n_annotations;
	at->annotations = (void *)config->annotations;
	v->attributes = at;
	const Bulkhead__TaskStats *t = gathered_task(g, c->record->sandbox_id, c->record->id);
	if (t) {
		v->cpu = view_cpu(a, &c->cpu, t);
		v->memory = view_memory(a, t);
		v->swap = view_swap(a, t);
		v->io = view_io(a, t);
	}
	v->writable_layer = view_disk(g->m, a, c);
	return v;
}

/* --- pod sandboxes ---------------------------------------------------------- */

static Runtime__V1__NetworkInterfaceUsage *view_interface(struct arena *a, const Bulkhead__InterfaceUsage *i) {
	Runtime__V1__NetworkInterfaceUsage *v =
	    ARENA_NEW(a, Runtime__V1__NetworkInterfaceUsage, RUNTIME__V1__NETWORK_INTERFACE_USAGE__INIT);
	if (!v)
		return NULL;
	v->name = i->name;
	v->rx_bytes = view_number(a, i->rx_bytes);
	v->rx_errors = view_number(a, i->rx_errors);
	v->tx_bytes = view_number(a, i->tx_bytes);
	v->tx_errors = view_number(a, i->tx_errors);
	return v;
}

/* The default one is CNI's first, and the others follow; none is in both. */
static Runtime__V1__NetworkUsage *view_network(struct arena *a, const Bulkhead__TaskStatsReply *p) {
	Runtime__V1__NetworkUsage *v = ARENA_NEW(a, Runtime__V1__NetworkUsage, RUNTIME__V1__NETWORK_USAGE__INIT);
	if (!v)
		return NULL;
	v->timestamp = p->pod->timestamp;
	v->interfaces = arena_alloc(a, (p->n_interfaces + 1) * sizeof(*v->interfaces));
	for (size_t i = 0; v->interfaces && i < p->n_interfaces; i++) {
		Runtime__V1__NetworkInterfaceUsage *u = view_interface(a, p->interfaces[i]);
		if (!u || strcmp(u->name, "lo") == 0)
			continue;
		if (!v->default_interface && strcmp(u->name, "eth0") == 0)
			v->default_interface = u;
		else
			v->interfaces[v->n_interfaces++] = u;
	}
	return v;
}

static Runtime__V1__ProcessUsage *view_processes(struct arena *a, const Bulkhead__TaskStats *t) {
	Runtime__V1__ProcessUsage *v = ARENA_NEW(a, Runtime__V1__ProcessUsage, RUNTIME__V1__PROCESS_USAGE__INIT);
	if (!v)
		return NULL;
	v->timestamp = t->timestamp;
	v->process_count = view_number(a, t->pids);
	return v;
}

static Runtime__V1__LinuxPodSandboxStats *view_linux(struct gathering *g, struct sandbox *s) {
	struct arena *a = &g->arena;
	const Bulkhead__TaskStatsReply *p = gathered_pod(g, s->record->id);
	Runtime__V1__LinuxPodSandboxStats *v =
	    ARENA_NEW(a, Runtime__V1__LinuxPodSandboxStats, RUNTIME__V1__LINUX_POD_SANDBOX_STATS__INIT);
	if (!v)
		return NULL;
	if (p && p->pod) {
		v->cpu = view_cpu(a, &s->cpu, p->pod);
		v->memory = view_memory(a, p->pod);
		v->process = view_processes(a, p->pod);
		v->io = view_io(a, p->pod);
		v->network = p->n_interfaces ? view_network(a, p) : NULL;
	}
	size_t n = 0;
	list_for_each (k, &s->containers)
		n++;
	v->containers = arena_alloc(a, (n + 1) * sizeof(*v->containers));
	list_for_each (k, &s->containers) {
		struct container *c = list_entry(k, struct container, in_sandbox);
		bool up = c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP && container_visible(c);
		Runtime__V1__ContainerStats *cs = up && v->containers ? view_container_stats(g, c) : NULL;
		if (cs)
			v->containers[v->n_containers++] = cs;
	}
	return v;
}

Runtime__V1__PodSandboxStats *view_sandbox_stats(struct gathering *g, struct sandbox *s) {
	struct arena *a = &g->arena;
	Runtime__V1__PodSandboxStats *v =
	    ARENA_NEW(a, Runtime__V1__PodSandboxStats, RUNTIME__V1__POD_SANDBOX_STATS__INIT);
	Runtime__V1__PodSandboxAttributes *at =
	    ARENA_NEW(a, Runtime__V1__PodSandboxAttributes, RUNTIME__V1__POD_SANDBOX_ATTRIBUTES__INIT);
	const Runtime__V1__PodSandboxConfig *config = s->record->config;
	if (!v || !at)
		return NULL;
	at->id = s->record->id;
	at->metadata = config->metadata;
	at->n_labels = config->n_labels;
	at->labels = (void *)config->labels;
	at->n_annotations = config->n_annotations;
	at->annotations = (void *)config->annotations;
	v->attributes = at;
	v->linux = view_linux(g, s);
	return v->linux ? v : NULL;
}
