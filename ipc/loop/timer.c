/* Timers (a binary heap by deadline) and deferred calls. No ring operation:
 * the turn's wait ends at the earliest deadline. */
#include "loop/internal.h"

#include "base/clock.h"

#include <errno.h>

static void heap_put(struct loop *l, size_t slot, struct loop_source *s) {
	l->timers[slot] = s;
	s->heap_slot = slot;
}

static void heap_up(struct loop *l, size_t slot) {
	struct loop_source *s = l->timers[slot];
	for (; slot > 1 && l->timers[slot / 2]->deadline > s->deadline; slot /= 2)
		heap_put(l, slot, l->timers[slot / 2]);
	heap_put(l, slot, s);
}

static void heap_down(struct loop *l, size_t slot) {
	struct loop_source *s = l->timers[slot];
	for (size_t child; (child = slot * 2) <= l->n_timers; slot = child) {
		if (child < l->n_timers && l->timers[child + 1]->deadline < l->timers[child]->deadline)
			child++;
		if (l->timers[child]->deadline >= s->deadline)
			break;
		heap_put(l, slot, l->timers[child]);
	}
	heap_put(l, slot, s);
}

void loop_timer_forget(struct loop_source *s) {
	struct loop *l = s->loop;
	size_t slot = s->heap_slot;
	if (!slot)
		return;
	s->heap_slot = 0;
	struct loop_source *last = l->timers[l->n_timers--];
	if (last == s)
		return;
	heap_put(l, slot, last);
	heap_up(l, slot);
	heap_down(l, last->heap_slot);
}

int loop_timers_run(struct loop *l) {
	if (l->n_timers == 0)
		return 0;
	int64_t now = clock_mono();
	int n = 0;
	while (l->n_timers > 0 && l->timers[1]->deadline <= now) {
		struct loop_source *s = l->timers[1];
		loop_timer_forget(s);
		s->busy = true;
		((loop_timer_fn)s->fn)(s->ctx);
		s->busy = false;
		if (s->gone)
			loop_source_drop(s);
		n++;
	}
	return n;
}

int loop_timer(struct loop *l, int64_t deadline, loop_timer_fn fn, void *ctx, struct loop_source **ret_source) {
	if (l->n_timers + 1 >= l->timers_room) {
		size_t room = l->timers_room ? l->timers_room * 2 : 16;
		struct loop_source **timers = realloc(l->timers, room * sizeof(struct loop_source *));
		if (!timers)
			return -ENOMEM;
		l->timers = timers;
		l->timers_room = room;
	}
	struct loop_source *s = loop_source_new(l, -1, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	s->deadline = deadline;
	l->timers[++l->n_timers] = s;
	heap_up(l, l->n_timers);
	*ret_source = s;
	return 0;
}

int loop_defer(struct loop *l, loop_timer_fn fn, void *ctx, struct loop_source **ret_source) {
	struct loop_source *s = loop_source_new(l, -1, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	list_append(&l->deferred, &s->node);
	*ret_source = s;
	return 0;
}
