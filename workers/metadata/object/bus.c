#include "workers/metadata/object/bus.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"

struct follower {
	struct list node;
	struct msg_request *r;
};

struct untold {
	struct list node;
	struct arena arena;
	Bulkhead__BusEvent *event;
};

/* --- telling ---------------------------------------------------------------- */

bool bus_followed(const struct bus *b) {
	return !list_empty(&b->followers);
}

void bus_tell(struct bus *b, Bulkhead__BusEvent *e) {
	e->time = clock_real();
	list_for_each_safe (n, &b->followers)
		bus_follow_reply_part(list_entry(n, struct follower, node)->r, e);
}

static void untold_free(struct untold *u) {
	arena_deinit(&u->arena);
	free(u);
}

/* A transaction that failed is tried again by the store: what happened stays
 * true for this process. */
static void committed(void *ctx, int result) {
	struct bus_queue *q = ctx;
	q->waiting = false;
	for (struct list *n; (n = list_pop(&q->events));) {
		struct untold *u = list_entry(n, struct untold, node);
		bus_tell(q->bus, u->event);
		untold_free(u);
	}
}

void bus_tell_committed(struct bus *b, enum store_base base, const Bulkhead__BusEvent *e) {
	struct bus_queue *q = &b->queues[base];
	if (!bus_followed(b))
		return;
	struct untold *u = calloc(1, sizeof(*u));
	if (u)
		arena_init(&u->arena, 0);
	if (!u || !(u->event = message_copy(&u->arena, &e->base))) {
		log_event(LOG_WARN, "out of memory: an event isn't told", "topic", e->topic, NULL);
		if (u)
			untold_free(u);
		return;
	}
	list_append(&q->events, &u->node);
	if (!q->waiting)
		store_wait(b->store, base, &q->commit);
	q->waiting = true;
}

/* --- life ------------------------------------------------------------------- */

void bus_init(struct bus *b) {
	list_init(&b->followers);
	for (size_t i = 0; i < STORE_BASES; i++) {
		struct bus_queue *q = &b->queues[i];
		*q = (struct bus_queue){ .bus = b, .commit = { .fn = committed, .ctx = q } };
		list_init(&q->events);
		list_init(&q->commit.node);
	}
}

void bus_deinit(struct bus *b) {
	for (size_t i = 0; i < STORE_BASES; i++) {
		if (b->queues[i].waiting)
			store_unwait(&b->queues[i].commit);
		for (struct list *n; (n = list_pop(&b->queues[i].events));)
			untold_free(list_entry(n, struct untold, node));
	}
}

/* --- requests --------------------------------------------------------------- */

static void gave_up(struct msg_request *r, void *ctx) {
	struct follower *f = ctx;
	list_unlink(&f->node);
	msg_failf(r, FAULT_CANCELLED, "the subscriber is gone");
}

/* Answered with all that is told from now on, until its caller gives up. */
void bus_follow(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	struct follower *f = arena_zalloc(&r->arena, sizeof(*f));
	if (!f) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "subscribe to events: out of memory");
		return;
	}
	f->r = r;
	r->cancelled = gave_up;
	r->cancelled_ctx = f;
	list_append(&m->bus.followers, &f->node);
}

void bus_publish(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	Bulkhead__BusEvent e = *(const Bulkhead__BusEvent *)request;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (!*e.namespace_ || !e.published || e.topic[0] != '/') {
		msg_failf(r, FAULT_INVALID_ARGUMENT,
			  "an event needs a namespace, a topic that begins with \"/\", and something to tell");
		return;
	}
	bus_tell(&m->bus, &e);
	bus_publish_reply(r, &done, NULL, 0);
}
