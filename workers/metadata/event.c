#include "workers/metadata/event.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

void events_init(struct events *e) {
	*e = (struct events){ 0 };
	list_init(&e->followers);
	list_init(&e->commit.node);
}

void events_deinit(struct events *e) {
	if (e->waiting)
		store_unwait(&e->commit);
	free(e->kept);
	e->kept = NULL;
}

/* Made with the first event: an idle daemon stays small. */
static bool room(struct events *e) {
	if (!e->kept)
		e->kept = calloc(EVENTS_KEPT, sizeof(*e->kept));
	return e->kept;
}

static void fill(struct event *ev, const char *sandbox_id, const char *container_id) {
	snprintf(ev->sandbox_id, sizeof(ev->sandbox_id), "%s", sandbox_id);
	snprintf(ev->container_id, sizeof(ev->container_id), "%s", container_id);
}

int events_load(struct events *e, const Bulkhead__EventRecord *r) {
	if (r->sequence == 0 || r->type > EVENT_OOM || !room(e))
		return -EBADMSG;
	struct event *ev = &e->kept[r->sequence % EVENTS_KEPT];
	*ev = (struct event){ .sequence = r->sequence, .time = r->time, .type = r->type, .sandbox = r->sandbox };
	fill(ev, r->sandbox_id, r->container_id);
	e->last = e->told = MAX(e->last, r->sequence);
	return 0;
}

/* --- telling ---------------------------------------------------------------- */

static void tell(struct events *e, const struct event *ev) {
	list_for_each_safe (n, &e->followers) {
		struct event_follower *f = list_entry(n, struct event_follower, node);
		f->fn(f->ctx, ev);
	}
}

static void committed(void *ctx, int result) {
	struct events *e = ctx;
	e->waiting = false;
	/* Not written now means written later: the store tries again. */
	while (e->told < e->last) {
		const struct event *ev = events_get(e, ++e->told);
		if (ev) {
			struct event now = *ev;
			tell(e, &now);
		}
	}
}

/* There is one slot per event kept, so the oldest is overwritten. */
static void save(struct events *e, const struct event *ev) {
	Bulkhead__EventRecord r = BULKHEAD__EVENT_RECORD__INIT;
	char key[24];
	r.sequence = ev->sequence;
	r.time = ev->time;
	r.type = ev->type;
	r.sandbox = ev->sandbox;
	r.container_id = (char *)(uintptr_t)ev->container_id;
	r.sandbox_id = (char *)(uintptr_t)ev->sandbox_id;
	snprintf(key, sizeof(key), "e/%" PRIu64, ev->sequence % EVENTS_KEPT);
	int result = store_put(e->store, STORE_PODS, key, RECORD_EVENT, &r.base);
	if (result < 0)
		log_event(LOG_WARN, "an event isn't stored", "container", ev->container_id, "error",
			  strerrordesc_np(-result), NULL);
	/* Waits for this change too, not only for those before it. */
	if (e->waiting)
		store_unwait(&e->commit);
	e->commit.fn = committed;
	e->commit.ctx = e;
	e->waiting = true;
	store_wait(e->store, STORE_PODS, &e->commit);
}

void events_begin(struct events *e, struct store *store) {
	e->store = store;
	for (uint64_t n = e->last; n > 0 && e->last - n < EVENTS_KEPT; n--) {
		const struct event *ev = events_get(e, n);
		if (ev && n > e->told)
			save(e, ev);
	}
}

void events_add(struct events *e, enum event_type type, const char *sandbox_id, const char *container_id) {
	if (!room(e))
		return;
	struct event *ev = &e->kept[++e->last % EVENTS_KEPT];
	*ev = (struct event){ .sequence = e->last, .time = clock_real(), .type = type, .sandbox = !container_id };
	fill(ev, sandbox_id, container_id ? container_id : sandbox_id);
	if (e->store)
		save(e, ev);
}

const struct event *events_get(const struct events *e, uint64_t sequence) {
	const struct event *ev = e->kept ? &e->kept[sequence % EVENTS_KEPT] : NULL;
	return ev && sequence > 0 && ev->sequence == sequence ? ev : NULL;
}

void events_follow(struct events *e, struct event_follower *f) {
	list_append(&e->followers, &f->node);
}

void events_unfollow(struct event_follower *f) {
	list_unlink(&f->node);
}
