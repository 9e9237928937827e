/*
 * task_list: what all keepers say of their pods, gathered.
 *
 * Owns: one struct listing per request, in its arena.
 * Happy path: keeper_state to every keeper at once -> the last answer replies.
 * Failure: a sandbox whose keeper doesn't answer in time is listed as
 * unreachable with no tasks: the caller must not take them for ended. One that
 * is lost, or half stopped, is listed with nothing in it: it is to be stopped.
 */
#include "task.h"

#include "base/clock.h"

#define LIST_LIMIT (5 * NS_PER_SEC)

struct listing {
	struct msg_request *request;
	Bulkhead__TaskListReply reply;
	size_t open;
	bool failed; /* a list with a pod missing would be a lie */
};

struct listing_entry {
	struct listing *listing;
	Bulkhead__SandboxInfo info;
	Bulkhead__SandboxInfo **slot;
};

/* A copy of a keeper's answer that lives as long as the request. */
static Bulkhead__SandboxInfo *info_copy(struct arena *a, const Bulkhead__SandboxInfo *info) {
	size_t size = bulkhead__sandbox_info__get_packed_size(info);
	uint8_t *packed = arena_alloc(a, size ? size : 1);
	if (!packed)
		return NULL;
	bulkhead__sandbox_info__pack(info, packed);
	return (Bulkhead__SandboxInfo *)msg_decode(&bulkhead__sandbox_info__descriptor, a, packed, size);
}

static void listing_step(struct listing *l) {
	if (--l->open > 0)
		return;
	if (l->failed)
		msg_failf(l->request, FAULT_RESOURCE_EXHAUSTED, "list pods: out of memory");
	else
		task_list_reply(l->request, &l->reply, NULL, 0);
}

static void listed(void *ctx, const struct msg_answer *a) {
	struct listing_entry *e = ctx;
	const Bulkhead__SandboxInfo *info = a->fault ? NULL : keeper_state_answer(a)->info;
	Bulkhead__SandboxInfo *copy = info ? info_copy(&e->listing->request->arena, info) : NULL;
	if (copy) {
		/* The name in the table counts, not what a keeper says. */
		copy->id = e->info.id;
		*e->slot = copy;
	}
	listing_step(e->listing);
}

/* Sooner than the caller gives up, or what was learnt would never get there. */
static struct msg_context listing_context(const struct msg_context *context) {
	int64_t left = context->deadline ? (context->deadline - clock_mono()) / 2 : LIST_LIMIT;
	return context_within(context, MIN(left, LIST_LIMIT));
}

static bool listing_add(struct listing *l, struct sandbox *s) {
	struct arena *a = &l->request->arena;
	struct listing_entry *e = arena_zalloc(a, sizeof(*e));
	if (!e)
		return false;
	e->listing = l;
	e->slot = &l->reply.sandboxes[l->reply.n_sandboxes];
	e->info = (Bulkhead__SandboxInfo)BULKHEAD__SANDBOX_INFO__INIT;
	e->info.id = arena_strdup(a, s->id);
	e->info.unreachable = s->state != SANDBOX_BROKEN && s->state != SANDBOX_STOPPING;
	if (!e->info.id)
		return false;
	*e->slot = &e->info;
	l->reply.n_sandboxes++;
	if (s->state != SANDBOX_RUNNING && s->state != SANDBOX_ORPHANED)
		return true;
	Bulkhead__Empty m = BULKHEAD__EMPTY__INIT;
	struct msg_context context = listing_context(&l->request->context);
	l->open++;
	keeper_state_send(s->link, &context, &m, NULL, 0, listed, e);
	return true;
}

void on_task_list(struct task_worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	struct listing *l = arena_zalloc(&r->arena, sizeof(*l));
	size_t n = w->sandboxes.n_nodes;
	if (l) {
		l->request = r;
		l->reply = (Bulkhead__TaskListReply)BULKHEAD__TASK_LIST_REPLY__INIT;
		l->reply.sandboxes = arena_zalloc(&r->arena, (n ? n : 1) * sizeof(*l->reply.sandboxes));
	}
	if (!l || !l->reply.sandboxes) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "list pods: out of memory");
		return;
	}
	l->open = 1;
	size_t pos;
	for (struct map_node *it = map_first(&w->sandboxes, &pos); it; it = map_next(&w->sandboxes, &pos, it))
		l->failed |= !listing_add(l, container_of(it, struct sandbox, node));
	listing_step(l);
}
