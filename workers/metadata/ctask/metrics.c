/*
 * ctask_metrics: the kernel's figures of tasks, by one call of the task worker
 * per pod. What doesn't run has none, and isn't in the list.
 */
#include "workers/metadata/ctask/ctask.h"

#include "workers/metadata/cri.h"
#include "workers/metadata/gather.h"

#include <string.h>

static bool is_wanted(const struct ctask *t, const Bulkhead__CtaskMetricsRequest *q) {
	if (!t->made || t->record->status == CTASK(STOPPED) || strcmp(t->record->namespace_, q->namespace_) != 0)
		return false;
	for (size_t i = 0; i < q->n_container_ids; i++)
		if (strcmp(q->container_ids[i], t->record->container_id) == 0)
			return true;
	return q->n_container_ids == 0;
}

static void answer(struct gathering *g) {
	const Bulkhead__CtaskMetricsRequest *q = (const Bulkhead__CtaskMetricsRequest *)g->request;
	Bulkhead__CtaskMetrics a = BULKHEAD__CTASK_METRICS__INIT;
	a.stats = arena_alloc(&g->arena, (g->m->ctasks.names.n_nodes + 1) * sizeof(*a.stats));
	list_for_each (n, &g->m->ctasks.all) {
		const struct ctask *t = list_entry(n, struct ctask, node);
		const Bulkhead__TaskStats *s = a.stats && is_wanted(t, q)
						   ? gathered_task(g, t->record->sandbox_id, t->record->container_id)
						   : NULL;
		if (s)
			a.stats[a.n_stats++] = (Bulkhead__TaskStats *)(uintptr_t)s;
	}
	if (a.n_stats == 0 && g->fault.code != FAULT_NONE)
		msg_fail(g->r, &g->fault);
	else
		ctask_metrics_reply(g->r, &a, NULL, 0);
}

void ctask_metrics(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__CtaskMetricsRequest *q = (const Bulkhead__CtaskMetricsRequest *)request;
	if (metadata_gate_read(m, r, request, ctask_metrics))
		return;
	struct gathering *g = gathering_new(m, r, request, answer);
	if (!g)
		return;
	list_for_each (n, &m->ctasks.all) {
		const struct ctask *t = list_entry(n, struct ctask, node);
		if (is_wanted(t, q))
			gather_tasks(g, t->record->sandbox_id, NULL, GATHER_FIGURES);
	}
	gathering_close(g);
}
