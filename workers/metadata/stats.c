/*
 * ContainerStats, ListContainerStats: numbers of the task worker (one call per
 * pod) beside those of the snapshot worker (one call per container, at most
 * every USAGE_FRESH_NS, because it walks a folder).
 */
#include "workers/metadata/cri.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/filter.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/view.h"

#include <string.h>

#define USAGE_FRESH_NS (10 * NS_PER_SEC)
#define STATS_TIMEOUT_NS (10 * NS_PER_SEC)

struct gathering {
	struct metadata *m;
	struct msg_request *r;
	const ProtobufCMessage *request;
	struct arena arena;
	unsigned open;
	Bulkhead__TaskStats **stats; /* copies */
	size_t n_stats, room;
	struct fault fault; /* of the last call that failed */
};

struct usage_call {
	struct gathering *g;
	char id[KEY_SIZE];
};

static Runtime__V1__UInt64Value *number(struct arena *a, uint64_t value) {
	Runtime__V1__UInt64Value *v = VIEW_NEW(a, Runtime__V1__UInt64Value, RUNTIME__V1__UINT64_VALUE__INIT);
	if (v)
		v->value = value;
	return v;
}

static const Bulkhead__TaskStats *stats_of(const struct gathering *g, const char *id) {
	for (size_t i = 0; i < g->n_stats; i++)
		if (strcmp(g->stats[i]->container_id, id) == 0)
			return g->stats[i];
	return NULL;
}

static void view_cpu(struct arena *a, struct container *c, const Bulkhead__TaskStats *t,
		     Runtime__V1__ContainerStats *v) {
	v->cpu = VIEW_NEW(a, Runtime__V1__CpuUsage, RUNTIME__V1__CPU_USAGE__INIT);
	if (!v->cpu)
		return;
	v->cpu->timestamp = t->timestamp;
	v->cpu->usage_core_nano_seconds = number(a, t->cpu_usage_ns);
	/* A rate needs two samples. */
	if (c->cpu_at && t->timestamp > c->cpu_at && t->cpu_usage_ns >= c->cpu_ns)
		v->cpu->usage_nano_cores = number(
		    a, (uint64_t)((double)(t->cpu_usage_ns - c->cpu_ns) * 1e9 / (double)(t->timestamp - c->cpu_at)));
	c->cpu_at = t->timestamp;
	c->cpu_ns = t->cpu_usage_ns;
}

static void view_memory(struct arena *a, const Bulkhead__TaskStats *t, Runtime__V1__ContainerStats *v) {
	v->memory = VIEW_NEW(a, Runtime__V1__MemoryUsage, RUNTIME__V1__MEMORY_USAGE__INIT);
	v->swap = VIEW_NEW(a, Runtime__V1__SwapUsage, RUNTIME__V1__SWAP_USAGE__INIT);
	if (!v->memory || !v->swap)
		return;
	v->memory->timestamp = v->swap->timestamp = t->timestamp;
	v->memory->working_set_bytes = number(a, t->memory_working_set_bytes);
	v->memory->usage_bytes = number(a, t->memory_usage_bytes);
	v->memory->rss_bytes = number(a, t->memory_rss_bytes);
	v->memory->page_faults = number(a, t->memory_page_faults);
	v->memory->major_page_faults = number(a, t->memory_major_page_faults);
	if (t->memory_limit_bytes > t->memory_working_set_bytes)
		v->memory->available_bytes = number(a, t->memory_limit_bytes - t->memory_working_set_bytes);
	v->swap->swap_usage_bytes = number(a, t->memory_swap_bytes);
}

static void view_disk(struct metadata *m, struct arena *a, const struct container *c, Runtime__V1__ContainerStats *v) {
	Runtime__V1__FilesystemIdentifier *id =
	    VIEW_NEW(a, Runtime__V1__FilesystemIdentifier, RUNTIME__V1__FILESYSTEM_IDENTIFIER__INIT);
	v->writable_layer = VIEW_NEW(a, Runtime__V1__FilesystemUsage, RUNTIME__V1__FILESYSTEM_USAGE__INIT);
	if (!id || !v->writable_layer)
		return;
	id->mountpoint = m->info ? m->info->mountpoint : (char *)"";
	v->writable_layer->timestamp = clock_real();
	v->writable_layer->fs_id = id;
	v->writable_layer->used_bytes = number(a, c->usage_size);
	v->writable_layer->inodes_used = number(a, c->usage_inodes);
}

static Runtime__V1__ContainerStats *view_stats(struct gathering *g, struct container *c) {
	struct arena *a = &g->arena;
	Runtime__V1__ContainerStats *v = VIEW_NEW(a, Runtime__V1__ContainerStats, RUNTIME__V1__CONTAINER_STATS__INIT);
	Runtime__V1__ContainerAttributes *at =
	    VIEW_NEW(a, Runtime__V1__ContainerAttributes, RUNTIME__V1__CONTAINER_ATTRIBUTES__INIT);
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
	const Bulkhead__TaskStats *t = stats_of(g, c->record->id);
	if (t) {
		view_cpu(a, c, t, v);
		view_memory(a, t, v);
	}
	view_disk(g->m, a, c, v);
	return v;
}

/* --- answers ---------------------------------------------------------------- */

static void answer_one(struct gathering *g) {
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
		a.stats = view_stats(g, c);
		cri_container_stats_reply(g->r, &a, NULL, 0);
	}
}

static bool wanted(const struct gathering *g, const struct container *c) {
	const Runtime__V1__ListContainerStatsRequest *q = (const Runtime__V1__ListContainerStatsRequest *)g->request;
	return c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP && filter_stats(q->filter, c);
}

static void answer_list(struct gathering *g) {
	Runtime__V1__ListContainerStatsResponse a = RUNTIME__V1__LIST_CONTAINER_STATS_RESPONSE__INIT;
	a.stats = arena_alloc(&g->arena, (g->m->model.container_ids.n_nodes + 1) * sizeof(*a.stats));
	list_for_each (n, &g->m->model.containers) {
		struct container *c = list_entry(n, struct container, node);
		Runtime__V1__ContainerStats *v = a.stats && wanted(g, c) ? view_stats(g, c) : NULL;
		if (v)
			a.stats[a.n_stats++] = v;
	}
	cri_list_container_stats_reply(g->r, &a, NULL, 0);
}

static void gathering_close(struct gathering *g) {
	if (--g->open > 0)
		return;
	if (g->r->row->number == MSG_cri_container_stats)
		answer_one(g);
	else
		answer_list(g);
	arena_deinit(&g->arena);
	free(g);
}

/* --- calls ------------------------------------------------------------------ */

static void stats_done(void *ctx, const struct msg_answer *answer) {
	struct gathering *g = ctx;
	if (answer->fault)
		g->fault = *answer->fault;
	else {
		const Bulkhead__TaskStatsReply *a = task_stats_answer(answer);
		for (size_t i = 0; i < a->n_stats && g->n_stats < g->room; i++) {
			Bulkhead__TaskStats *t = message_copy(&g->arena, &a->stats[i]->base);
			if (t)
				g->stats[g->n_stats++] = t;
		}
	}
	gathering_close(g);
}

static void usage_done(void *ctx, const struct msg_answer *answer) {
	struct usage_call *u = ctx;
	struct map_node *n = map_find(&u->g->m->model.container_ids, u->id);
	if (!answer->fault && n) {
		struct container *c = container_of(n, struct container, by_id);
		c->usage_size = snapshot_usage_answer(answer)->size;
		c->usage_inodes = snapshot_usage_answer(answer)->inodes;
		c->usage_at = clock_mono();
	}
	gathering_close(u->g);
}

static struct msg_context stats_context(const struct msg_request *r) {
	struct msg_context c = r->context;
	int64_t limit = clock_mono() + STATS_TIMEOUT_NS;
	c.deadline = c.deadline ? MIN(c.deadline, limit) : limit;
	return c;
}

static void ask_usage(struct gathering *g, const struct container *c) {
	struct msg_context context = stats_context(g->r);
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	struct usage_call *u = arena_zalloc(&g->arena, sizeof(*u));
	if (!u || (c->usage_at && clock_mono() - c->usage_at < USAGE_FRESH_NS))
		return;
	u->g = g;
	strcpy(u->id, c->record->id);
	q.id = u->id;
	g->open++;
	snapshot_usage_send(g->m->snapshot, &context, &q, NULL, 0, usage_done, u);
}

static void ask_task(struct gathering *g, const struct sandbox *s, char *container_id) {
	struct msg_context context = stats_context(g->r);
	Bulkhead__TaskStatsRequest q = BULKHEAD__TASK_STATS_REQUEST__INIT;
	q.sandbox_id = s->record->id;
	q.n_container_ids = container_id ? 1 : 0;
	q.container_ids = &container_id;
	g->open++;
	task_stats_send(g->m->task, &context, &q, NULL, 0, stats_done, g);
}

static struct gathering *gathering_new(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct gathering *g = calloc(1, sizeof(*g));
	if (g) {
		*g = (struct gathering){ .m = m, .r = r, .request = request, .open = 1 };
		arena_init(&g->arena, 0);
		g->room = m->model.container_ids.n_nodes;
		g->stats = arena_alloc(&g->arena, (g->room + 1) * sizeof(*g->stats));
	}
	if (!g || !g->stats) {
		free(g);
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "container stats: out of memory");
		return NULL;
	}
	return g;
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
	struct gathering *g = gathering_new(m, r, request);
	if (!g)
		return;
	ask_usage(g, c);
	if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP)
		ask_task(g, c->sandbox, c->record->id);
	gathering_close(g);
}

void cri_list_container_stats(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct gathering *g = gathering_new(m, r, request);
	if (!g)
		return;
	list_for_each (n, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(n, struct sandbox, node);
		bool any = false;
		list_for_each (k, &s->containers) {
			const struct container *c = list_entry(k, struct container, in_sandbox);
			if (!wanted(g, c))
				continue;
			any = true;
			ask_usage(g, c);
		}
		if (any)
			ask_task(g, s, NULL);
	}
	gathering_close(g);
}
