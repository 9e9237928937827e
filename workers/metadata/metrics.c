/*
 * ListMetricDescriptors, ListPodSandboxMetrics, and the latter in parts: of
 * ready pods, and of the containers that run in them.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "workers/metadata/metric_family.h"
#include "workers/metadata/parts.h"
#include "workers/metadata/view.h"

#include <string.h>

/* --- descriptors ------------------------------------------------------------ */

static Runtime__V1__MetricDescriptor *descriptor(struct arena *a, const struct metric_family *f) {
	Runtime__V1__MetricDescriptor *v =
	    ARENA_NEW(a, Runtime__V1__MetricDescriptor, RUNTIME__V1__METRIC_DESCRIPTOR__INIT);
	char **keys = arena_alloc(a, METRIC_LABELS_MAX * sizeof(*keys));
	if (!v || !keys)
		return NULL;
	v->name = (char *)(uintptr_t)f->name;
	v->help = (char *)(uintptr_t)f->help;
	v->label_keys = keys;
	for (size_t i = 0; i < METRIC_BASE_LABELS; i++)
		keys[v->n_label_keys++] = (char *)(uintptr_t)metric_base_labels[i];
	for (size_t i = 0; f->labels[i]; i++)
		keys[v->n_label_keys++] = (char *)(uintptr_t)f->labels[i];
	return v;
}

void cri_list_metric_descriptors(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Runtime__V1__ListMetricDescriptorsResponse a = RUNTIME__V1__LIST_METRIC_DESCRIPTORS_RESPONSE__INIT;
	size_t n = 0;
	while (metric_families[n].name)
		n++;
	a.descriptors = arena_alloc(&r->arena, (n + 1) * sizeof(*a.descriptors));
	for (size_t i = 0; a.descriptors && i < n; i++)
		if ((a.descriptors[a.n_descriptors] = descriptor(&r->arena, &metric_families[i])))
			a.n_descriptors++;
	cri_list_metric_descriptors_reply(r, &a, NULL, 0);
}

/* --- values ----------------------------------------------------------------- */

static void base_labels(struct metric_set *set, const struct sandbox *s, const char *container, const char *id,
			const char *image, const char *name) {
	const Runtime__V1__PodSandboxMetadata *pod = s->record->config->metadata;
	const char *const values[METRIC_BASE_LABELS] = { container, id, image, name, pod->namespace_, pod->name };
	for (size_t i = 0; i < METRIC_BASE_LABELS; i++)
		set->base[i] = (char *)(uintptr_t)values[i];
}

static Runtime__V1__ContainerMetrics *container_metrics(struct gathering *g, const struct container *c) {
	const Bulkhead__TaskStats *t = gathered_task(g, c->record->sandbox_id, c->record->id);
	if (!t || !t->detail)
		return NULL;
	Runtime__V1__ContainerMetrics *v =
	    ARENA_NEW(&g->arena, Runtime__V1__ContainerMetrics, RUNTIME__V1__CONTAINER_METRICS__INIT);
	struct metric_set set = { .arena = &g->arena, .m = g->m, .c = c, .stats = t, .now = clock_real() };
	if (!v)
		return NULL;
	base_labels(&set, c->sandbox, c->record->config->metadata->name, t->detail->cgroup_path,
		    c->record->config->image->image, c->record->id);
	metric_add_container(&set);
	v->container_id = c->record->id;
	v->metrics = set.list;
	v->n_metrics = set.n;
	return v;
}

static Runtime__V1__PodSandboxMetrics *sandbox_metrics(struct gathering *g, const struct sandbox *s) {
	const Bulkhead__TaskStatsReply *p = gathered_pod(g, s->record->id);
	Runtime__V1__PodSandboxMetrics *v =
	    ARENA_NEW(&g->arena, Runtime__V1__PodSandboxMetrics, RUNTIME__V1__POD_SANDBOX_METRICS__INIT);
	struct metric_set set = { .arena = &g->arena, .m = g->m, .now = clock_real() };
	size_t n = 0;
	if (!p || !v)
		return NULL;
	bool detail = p->pod && p->pod->detail;
	base_labels(&set, s, "", detail ? p->pod->detail->cgroup_path : "", "", s->record->id);
	for (size_t i = 0; i < p->n_interfaces; i++)
		if (strcmp(p->interfaces[i]->name, "lo") != 0)
			metric_add_network(&set, p->interfaces[i]);
	v->pod_sandbox_id = s->record->id;
	v->metrics = set.list;
	v->n_metrics = set.n;
	list_for_each (k, &s->containers)
		n++;
	v->container_metrics = arena_alloc(&g->arena, (n + 1) * sizeof(*v->container_metrics));
	list_for_each (k, &s->containers) {
		const struct container *c = list_entry(k, struct container, in_sandbox);
		Runtime__V1__ContainerMetrics *cm = v->container_metrics ? container_metrics(g, c) : NULL;
		if (cm)
			v->container_metrics[v->n_container_metrics++] = cm;
	}
	return v;
}

static void answer_metrics(struct gathering *g) {
	Runtime__V1__ListPodSandboxMetricsResponse a = RUNTIME__V1__LIST_POD_SANDBOX_METRICS_RESPONSE__INIT;
	a.pod_metrics = arena_alloc(&g->arena, (g->m->model.sandbox_ids.n_nodes + 1) * sizeof(*a.pod_metrics));
	list_for_each (n, &g->m->model.sandboxes) {
		const struct sandbox *s = list_entry(n, struct sandbox, node);
		Runtime__V1__PodSandboxMetrics *v = a.pod_metrics ? sandbox_metrics(g, s) : NULL;
		if (v)
			a.pod_metrics[a.n_pod_metrics++] = v;
	}
	if (g->r->row->stream)
		PARTS_REPLY(cri_stream_pod_sandbox_metrics, g->r, Runtime__V1__StreamPodSandboxMetricsResponse,
			    RUNTIME__V1__STREAM_POD_SANDBOX_METRICS_RESPONSE__INIT, pod_sandbox_metrics, a.pod_metrics,
			    a.n_pod_metrics);
	else
		cri_list_pod_sandbox_metrics_reply(g->r, &a, NULL, 0);
}

void cri_list_pod_sandbox_metrics(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct gathering *g = gathering_new(m, r, request, answer_metrics);
	if (!g)
		return;
	list_for_each (n, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(n, struct sandbox, node);
		if (sandbox_state(s) != RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
			continue;
		list_for_each (k, &s->containers) {
			const struct container *c = list_entry(k, struct container, in_sandbox);
			if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
				gather_usage(g, c);
		}
		gather_tasks(g, s->record->id, NULL, GATHER_POD | GATHER_DETAIL);
	}
	gathering_close(g);
}
