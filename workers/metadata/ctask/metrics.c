/*
 * ctask_metrics: the kernel's figures of tasks, by one call of the task worker
 * per pod. What doesn't run has none, and isn't in the list.
 */
#include "workers/metadata/ctask/ctask.h"

#include "workers/metadata/handlers.h"
#include "workers/metadata/gather.h"

#include <string.h>

static bool is_wanted(const Bulkhead__CtaskRecord *r, const Bulkhead__CtaskMetricsRequest *q) {
	if (r->status == CTASK(STOPPED) || strcmp(r->namespace_, q->namespace_) != 0)
		return false;
	for (size_t i = 0; i < q->n_container_ids; i++)
		if (strcmp(q->container_ids[i], r->container_id) == 0)
			return true;
	return q->n_container_ids == 0;
}

/* All that are wanted, the CRI's too. */
static void each(struct gathering *g, void (*fn)(struct gathering *g, const Bulkhead__CtaskRecord *r, void *ctx),
		 void *ctx) {
	const Bulkhead__CtaskMetricsRequest *q = (const Bulkhead__CtaskMetricsRequest *)g->request;
	Bulkhead__CtaskRecord lent;
	Bulkhead__Stdio stdio;
	list_for_each (n, &g->m->ctasks.all) {
		const struct ctask *t = list_entry(n, struct ctask, node);
		if (t->made && !t->record->lent && is_wanted(t->record, q))
			fn(g, t->record, ctx);
	}
	list_for_each (n, &g->m->model.containers) {
		const struct container *c = list_entry(n, struct container, node);
		if (!ctask_lends(c))
			continue;
		ctask_lent_record(g->m, c, &stdio, &lent);
		if (is_wanted(&lent, q))
			fn(g, &lent, ctx);
	}
}

static void add(struct gathering *g, const Bulkhead__CtaskRecord *r, void *ctx) {
	Bulkhead__CtaskMetrics *a = ctx;
	const Bulkhead__TaskStats *s = gathered_task(g, r->sandbox_id, r->container_id);
	if (s)
		a->stats[a->n_stats++] = (Bulkhead__TaskStats *)(uintptr_t)s;
}

static void answer(struct gathering *g) {
	Bulkhead__CtaskMetrics a = BULKHEAD__CTASK_METRICS__INIT;
	size_t n = g->m->ctasks.names.n_nodes + g->m->model.container_ids.n_nodes;
	a.stats = arena_alloc(&g->arena, (n + 1) * sizeof(*a.stats));
	if (a.stats)
		each(g, add, &a);
	if (a.n_stats == 0 && g->fault.code != FAULT_NONE)
		msg_fail(g->r, &g->fault);
	else
		ctask_metrics_reply(g->r, &a, NULL, 0);
}

static void ask(struct gathering *g, const Bulkhead__CtaskRecord *r, void *ctx) {
	gather_tasks(g, r->sandbox_id, NULL, GATHER_FIGURES);
}

void ctask_metrics(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	if (metadata_gate_read(m, r, request, ctask_metrics))
		return;
	struct gathering *g = gathering_new(m, r, request, answer);
	if (!g)
		return;
	each(g, ask, NULL);
	gathering_close(g);
}
