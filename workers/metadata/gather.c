#include "workers/metadata/gather.h"

#include "base/clock.h"
#include "workers/metadata/lifecycle.h"

#include <string.h>

#define USAGE_FRESH_NS (10 * NS_PER_SEC)
#define STATS_TIMEOUT_NS (10 * NS_PER_SEC)

struct gathered {
	struct gathering *g;
	struct map_node node;
	char id[KEY_SIZE];
	const Bulkhead__TaskStatsReply *reply; /* a copy */
};

struct usage_call {
	struct gathering *g;
	char id[KEY_SIZE];
};

struct gathering *gathering_new(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
				void (*answer)(struct gathering *g)) {
	struct gathering *g = calloc(1, sizeof(*g));
	if (!g) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return NULL;
	}
	*g = (struct gathering){ .m = m, .r = r, .request = request, .answer = answer, .open = 1 };
	arena_init(&g->arena, 0);
	map_init(&g->pods);
	return g;
}

void gathering_close(struct gathering *g) {
	if (--g->open > 0)
		return;
	g->answer(g);
	map_deinit(&g->pods);
	arena_deinit(&g->arena);
	free(g);
}

static struct msg_context stats_context(const struct msg_request *r) {
	struct msg_context c = r->context;
	int64_t limit = clock_mono() + STATS_TIMEOUT_NS;
	c.deadline = c.deadline ? MIN(c.deadline, limit) : limit;
	return c;
}

/* --- tasks ------------------------------------------------------------------ */

static void tasks_done(void *ctx, const struct msg_answer *answer) {
	struct gathered *p = ctx;
	struct gathering *g = p->g;
	if (answer->fault)
		g->fault = *answer->fault;
	else
		p->reply = message_copy(&g->arena, &task_stats_answer(answer)->base);
	gathering_close(g);
}

void gather_tasks(struct gathering *g, const char *sandbox_id, char *container_id, unsigned what) {
	struct msg_context context = stats_context(g->r);
	Bulkhead__TaskStatsRequest q = BULKHEAD__TASK_STATS_REQUEST__INIT;
	struct gathered *p = arena_zalloc(&g->arena, sizeof(*p));
	if (!p)
		return;
	p->g = g;
	strcpy(p->id, sandbox_id);
	if (map_insert(&g->pods, &p->node, p->id) < 0)
		return;
	q.sandbox_id = p->id;
	q.n_container_ids = container_id ? 1 : 0;
	q.container_ids = &container_id;
	q.pod = what & GATHER_POD;
	q.detail = what & GATHER_DETAIL;
	q.figures = what & GATHER_FIGURES;
	g->open++;
	task_stats_send(g->m->task, &context, &q, NULL, 0, tasks_done, p);
}

const Bulkhead__TaskStatsReply *gathered_pod(const struct gathering *g, const char *sandbox_id) {
	struct map_node *n = map_find(&g->pods, sandbox_id);
	return n ? container_of(n, struct gathered, node)->reply : NULL;
}

const Bulkhead__TaskStats *gathered_task(const struct gathering *g, const char *sandbox_id, const char *container_id) {
	const Bulkhead__TaskStatsReply *p = gathered_pod(g, sandbox_id);
	for (size_t i = 0; p && i < p->n_stats; i++)
		if (strcmp(p->stats[i]->container_id, container_id) == 0)
			return p->stats[i];
	return NULL;
}

/* --- writable layers -------------------------------------------------------- */

static void usage_done(void *ctx, const struct msg_answer *answer) {
	struct usage_call *u = ctx;
	struct map_node *n = map_find(&u->g->m->model.container_ids, u->id);
	if (!answer->fault && n) {
		struct container *c = container_of(n, struct container, by_id);
		c->usage_size = snapshot_usage_answer(answer)->size;
		c->usage_inodes = snapshot_usage_answer(answer)->inodes;
		c->usage_at = clock_mono();
		u->g->m->fs = (struct fs_room){
			.size = snapshot_usage_answer(answer)->fs_size,
			.inodes = snapshot_usage_answer(answer)->fs_inodes,
			.inodes_free = snapshot_usage_answer(answer)->fs_inodes_free,
		};
	}
	gathering_close(u->g);
}

void gather_usage(struct gathering *g, const struct container *c) {
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
