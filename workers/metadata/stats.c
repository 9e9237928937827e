/*
 * ContainerStats, ListContainerStats, PodSandboxStats, ListPodSandboxStats,
 * and the two lists in parts. Only what runs has figures, so lists name
 * running containers and ready pods; a figure that one asked for by id and that
 * can't be had is an error.
 */
#include "workers/metadata/handlers.h"

#include "workers/metadata/filter.h"
#include "workers/metadata/parts.h"
#include "workers/metadata/view.h"
#include "workers/metadata/view_stats.h"

/* --- containers ------------------------------------------------------------- */

static void answer_container(struct gathering *g) {
	const Runtime__V1__ContainerStatsRequest *q = (const Runtime__V1__ContainerStatsRequest *)g->request;
	Runtime__V1__ContainerStatsResponse a = RUNTIME__V1__CONTAINER_STATS_RESPONSE__INIT;
	struct container *c;
	struct fault fault;
	if (model_find_container(&g->m->model, q->container_id, &c, &fault) < 0) {
		fault_prefix(&fault, 0, "stats of container");
		msg_fail(g->r, &fault);
	} else if (g->fault.code != FAULT_NONE) {
		fault_prefix(&g->fault, 0, "stats of container \"%s\"", q->container_id);
		msg_fail(g->r, &g->fault);
	} else {
		a.stats = view_container_stats(g, c);
		cri_container_stats_reply(g->r, &a, NULL, 0);
	}
}

void cri_container_stats(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ContainerStatsRequest *q = (const Runtime__V1__ContainerStatsRequest *)request;
	struct container *c;
	struct fault fault;
	if (model_find_container(&m->model, q->container_id, &c, &fault) < 0) {
		fault_prefix(&fault, 0, "stats of container");
		msg_fail(r, &fault);
		return;
	}
	struct gathering *g = gathering_new(m, r, request, answer_container);
	if (!g)
		return;
	gather_usage(g, c);
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		gather_tasks(g, c->record->sandbox_id, c->record->id, 0);
	gathering_close(g);
}

static bool container_wanted(const struct gathering *g, const struct container *c) {
	const Runtime__V1__ContainerStatsFilter *f =
	    g->r->row->stream ? ((const Runtime__V1__StreamContainerStatsRequest *)g->request)->filter
			      : ((const Runtime__V1__ListContainerStatsRequest *)g->request)->filter;
	return c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP && filter_stats(f, c);
}

static void answer_containers(struct gathering *g) {
	Runtime__V1__ListContainerStatsResponse a = RUNTIME__V1__LIST_CONTAINER_STATS_RESPONSE__INIT;
	a.stats = arena_alloc(&g->arena, (g->m->model.container_ids.n_nodes + 1) * sizeof(*a.stats));
	list_for_each (n, &g->m->model.containers) {
		struct container *c = list_entry(n, struct container, node);
		Runtime__V1__ContainerStats *v = a.stats && container_wanted(g, c) ? view_container_stats(g, c) : NULL;
		if (v)
			a.stats[a.n_stats++] = v;
	}
	if (g->r->row->stream)
		PARTS_REPLY(cri_stream_container_stats, g->r, Runtime__V1__StreamContainerStatsResponse,
			    RUNTIME__V1__STREAM_CONTAINER_STATS_RESPONSE__INIT, container_stats, a.stats, a.n_stats);
	else
		cri_list_container_stats_reply(g->r, &a, NULL, 0);
}

void cri_list_container_stats(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct gathering *g = gathering_new(m, r, request, answer_containers);
	if (!g)
		return;
	list_for_each (n, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(n, struct sandbox, node);
		bool any = false;
		list_for_each (k, &s->containers) {
			const struct container *c = list_entry(k, struct container, in_sandbox);
			if (!container_wanted(g, c))
				continue;
			any = true;
			gather_usage(g, c);
		}
		if (any)
			gather_tasks(g, s->record->id, NULL, 0);
	}
	gathering_close(g);
}

/* --- pod sandboxes ---------------------------------------------------------- */

static void gather_sandbox(struct gathering *g, const struct sandbox *s) {
	list_for_each (k, &s->containers) {
		const struct container *c = list_entry(k, struct container, in_sandbox);
		if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
			gather_usage(g, c);
	}
	if (sandbox_state(s) == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY)
		gather_tasks(g, s->record->id, NULL, GATHER_POD);
}

static void answer_sandbox(struct gathering *g) {
	const Runtime__V1__PodSandboxStatsRequest *q = (const Runtime__V1__PodSandboxStatsRequest *)g->request;
	Runtime__V1__PodSandboxStatsResponse a = RUNTIME__V1__POD_SANDBOX_STATS_RESPONSE__INIT;
	struct sandbox *s;
	struct fault fault;
	if (model_find_sandbox(&g->m->model, q->pod_sandbox_id, &s, &fault) < 0) {
		fault_prefix(&fault, 0, "stats of pod sandbox");
		msg_fail(g->r, &fault);
	} else if (g->fault.code != FAULT_NONE) {
		fault_prefix(&g->fault, 0, "stats of pod sandbox \"%s\"", q->pod_sandbox_id);
		msg_fail(g->r, &g->fault);
	} else {
		a.stats = view_sandbox_stats(g, s);
		cri_pod_sandbox_stats_reply(g->r, &a, NULL, 0);
	}
}

void cri_pod_sandbox_stats(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__PodSandboxStatsRequest *q = (const Runtime__V1__PodSandboxStatsRequest *)request;
	struct sandbox *s;
	struct fault fault;
	if (model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault) < 0) {
		fault_prefix(&fault, 0, "stats of pod sandbox");
		msg_fail(r, &fault);
		return;
	}
	struct gathering *g = gathering_new(m, r, request, answer_sandbox);
	if (!g)
		return;
	gather_sandbox(g, s);
	gathering_close(g);
}

static bool sandbox_wanted(const struct gathering *g, const struct sandbox *s) {
	const Runtime__V1__PodSandboxStatsFilter *f =
	    g->r->row->stream ? ((const Runtime__V1__StreamPodSandboxStatsRequest *)g->request)->filter
			      : ((const Runtime__V1__ListPodSandboxStatsRequest *)g->request)->filter;
	return sandbox_state(s) == RUNTIME__V1__POD_SANDBOX_STATE__SANDBOX_READY && filter_sandbox_stats(f, s);
}

static void answer_sandboxes(struct gathering *g) {
	Runtime__V1__ListPodSandboxStatsResponse a = RUNTIME__V1__LIST_POD_SANDBOX_STATS_RESPONSE__INIT;
	a.stats = arena_alloc(&g->arena, (g->m->model.sandbox_ids.n_nodes + 1) * sizeof(*a.stats));
	list_for_each (n, &g->m->model.sandboxes) {
		struct sandbox *s = list_entry(n, struct sandbox, node);
		Runtime__V1__PodSandboxStats *v = a.stats && sandbox_wanted(g, s) ? view_sandbox_stats(g, s) : NULL;
		if (v)
			a.stats[a.n_stats++] = v;
	}
	if (g->r->row->stream)
		PARTS_REPLY(cri_stream_pod_sandbox_stats, g->r, Runtime__V1__StreamPodSandboxStatsResponse,
			    RUNTIME__V1__STREAM_POD_SANDBOX_STATS_RESPONSE__INIT, pod_sandbox_stats, a.stats,
			    a.n_stats);
	else
		cri_list_pod_sandbox_stats_reply(g->r, &a, NULL, 0);
}

void cri_list_pod_sandbox_stats(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct gathering *g = gathering_new(m, r, request, answer_sandboxes);
	if (!g)
		return;
	list_for_each (n, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(n, struct sandbox, node);
		if (sandbox_wanted(g, s))
			gather_sandbox(g, s);
	}
	gathering_close(g);
}
