#include "workers/snapshot/reaper.h"

#include "base/clock.h"
#include "base/log.h"
#include "tree/remove.h"

/* Long enough that a burst of removals shares one child. */
#define PAUSE (300 * NS_PER_MS)

void reaper_init(struct reaper *r, struct loop *loop, const struct rooms *rooms) {
	*r = (struct reaper){ .loop = loop, .rooms = rooms };
	list_init(&r->running);
	list_init(&r->waiting);
}

static int empty_both(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct rooms *rooms = arg;
	int r = trash_empty(rooms->layers_trash);
	int r2 = trash_empty(rooms->snapshots_trash);
	if (r == 0)
		r = r2;
	return r < 0 ? fault_errno(fault, r, "empty the trash") : 0;
}

static void answer(struct list *waits, const struct fault *fault) {
	for (struct list *n; (n = list_pop(waits));) {
		struct reap_wait *w = list_entry(n, struct reap_wait, node);
		w->done(w, fault);
	}
}

static void start(struct reaper *r);

static void emptied(void *ctx, const struct child_result *result) {
	struct reaper *r = ctx;
	bool failed = result->fault.code != FAULT_NONE;
	r->child = NULL;
	if (failed)
		log_event(LOG_WARN, "the trash isn't empty", "error", result->fault.text, NULL);
	answer(&r->running, failed ? &result->fault : NULL);
	if (r->again || !list_empty(&r->waiting))
		start(r);
}

static void start(struct reaper *r) {
	const struct child_options options = {
		.name = "reaper",
		.nice = 10,
		.keep = { r->rooms->layers_trash, r->rooms->snapshots_trash },
		.n_keep = 2,
		.run = empty_both,
		.arg = (void *)r->rooms,
		.done = emptied,
		.ctx = r,
	};
	r->again = false;
	loop_source_free_p(&r->timer);
	while (!list_empty(&r->waiting)) {
		struct list *n = list_pop(&r->waiting);
		list_append(&r->running, n);
	}
	int e = child_start(r->loop, &options, &r->child);
	if (e == 0)
		return;
	struct fault fault;
	fault_errno(&fault, e, "start a process that empties the trash");
	log_event(LOG_WARN, "the trash isn't empty", "error", fault.text, NULL);
	answer(&r->running, &fault);
}

static void pause_over(void *ctx) {
	struct reaper *r = ctx;
	start(r);
}

void reaper_soon(struct reaper *r) {
	if (r->child) {
		r->again = true;
		return;
	}
	/* Without a timer it is now. */
	if (!r->timer && loop_timer(r->loop, clock_mono() + PAUSE, pause_over, r, &r->timer) < 0)
		start(r);
}

void reaper_now(struct reaper *r, struct reap_wait *w) {
	list_append(&r->waiting, &w->node);
	if (!r->child)
		start(r);
}
