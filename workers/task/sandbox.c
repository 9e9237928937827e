/*
 * The table of pod sandboxes.
 *
 * Owns: each struct sandbox with its link and what is remembered of it.
 * Invariant: a sandbox is in the table exactly as long as its folder below
 * pods/ may exist; its link is there from the first to the last moment, so
 * calls that may be repeated wait in it while a keeper is being replaced.
 * Happy path: sandbox_new, ..., sandbox_free.
 * Failure: out of memory, told to the caller.
 */
#include "task.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>

static void sandbox_destroy(struct sandbox *s) {
	s->state = SANDBOX_GONE; /* for the callbacks of calls that end now */
	link_free(s->link);
	link_free(s->cradle);
	fd_close(s->vault);
	if (s->started)
		bulkhead__sandbox_start_reply__free_unpacked(s->started, NULL);
	free(s->id);
	free(s);
}

static int link_make(struct sandbox *s, struct link **ret_link) {
	struct link_options options = {
		.loop = s->worker->loop,
		.self = ROLE_TASK,
		.peer = ROLE_KEEPER,
		.handlers = keeper_handlers,
		.worker = s,
		.on_down = keeper_down,
	};
	return link_new(&options, ret_link);
}

int sandbox_link_renew(struct sandbox *s) {
	struct link *fresh;
	int r = link_make(s, &fresh);
	if (r < 0)
		return r;
	struct link *old = s->link;
	s->link = fresh;
	link_free(old);
	return 0;
}

int sandbox_new(struct task_worker *w, const char *id, enum sandbox_state state, struct sandbox **ret_sandbox) {
	struct sandbox *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->worker = w;
	s->state = state;
	list_init(&s->stops);
	s->vault = -1;
	list_init(&s->dead_node);
	int r = -ENOMEM;
	s->id = strdup(id);
	if (s->id)
		r = link_make(s, &s->link);
	if (r >= 0)
		r = map_insert(&w->sandboxes, &s->node, s->id);
	if (r < 0) {
		sandbox_destroy(s);
		return r;
	}
	*ret_sandbox = s;
	return 0;
}

static void bury(void *ctx) {
	struct task_worker *w = ctx;
	loop_source_free_p(&w->burial);
	for (struct list *n; (n = list_pop(&w->dead));)
		sandbox_destroy(list_entry(n, struct sandbox, dead_node));
}

void sandbox_free(struct sandbox *s) {
	struct task_worker *w = s->worker;
	map_remove(&w->sandboxes, &s->node);
	s->state = SANDBOX_GONE;
	list_append(&w->dead, &s->dead_node);
	if (!w->burial && loop_defer(w->loop, bury, w, &w->burial) < 0)
		log_text(LOG_WARN, "out of memory: a stopped pod sandbox is freed later");
}

struct sandbox *sandbox_find(struct task_worker *w, const char *id) {
	struct map_node *n = map_find(&w->sandboxes, id);
	return n ? container_of(n, struct sandbox, node) : NULL;
}

void sandbox_table_deinit(struct task_worker *w) {
	size_t pos;
	for (struct map_node *n = map_first(&w->sandboxes, &pos); n; n = map_next(&w->sandboxes, &pos, n))
		sandbox_free(container_of(n, struct sandbox, node));
	bury(w);
	map_deinit(&w->sandboxes);
}

void sandbox_remember(struct sandbox *s, const Bulkhead__SandboxStartReply *started) {
	size_t size = bulkhead__sandbox_start_reply__get_packed_size(started);
	CLEANUP_FREE uint8_t *packed = malloc(size ? size : 1);
	if (!packed)
		return;
	bulkhead__sandbox_start_reply__pack(started, packed);
	Bulkhead__SandboxStartReply *copy = bulkhead__sandbox_start_reply__unpack(NULL, size, packed);
	if (!copy)
		return;
	if (s->started)
		bulkhead__sandbox_start_reply__free_unpacked(s->started, NULL);
	s->started = copy;
	s->keeper_pid = copy->keeper_pid;
}

struct msg_context context_within(const struct msg_context *context, int64_t limit_ns) {
	struct msg_context c = *context;
	int64_t latest = clock_mono() + limit_ns;
	if (!c.deadline || c.deadline > latest)
		c.deadline = latest;
	return c;
}
