#include "workers/metadata/event.h"

#include "base/clock.h"

#include <stdio.h>

void events_init(struct events *e) {
	*e = (struct events){ 0 };
	list_init(&e->followers);
}

void events_deinit(struct events *e) {
	free(e->kept);
	e->kept = NULL;
}

void events_add(struct events *e, enum event_type type, const char *sandbox_id, const char *container_id) {
	/* Made with the first event: an idle daemon stays small. */
	if (!e->kept)
		e->kept = calloc(EVENTS_KEPT, sizeof(*e->kept));
	if (!e->kept)
		return;
	struct event *ev = &e->kept[++e->last % EVENTS_KEPT];
	*ev = (struct event){ .sequence = e->last, .time = clock_real(), .type = type, .sandbox = !container_id };
	snprintf(ev->sandbox_id, sizeof(ev->sandbox_id), "%s", sandbox_id);
	snprintf(ev->container_id, sizeof(ev->container_id), "%s", container_id ? container_id : sandbox_id);
	struct event now = *ev;
	list_for_each_safe (n, &e->followers) {
		struct event_follower *f = list_entry(n, struct event_follower, node);
		f->fn(f->ctx, &now);
	}
}

const struct event *events_get(const struct events *e, uint64_t sequence) {
	if (!e->kept || sequence == 0 || sequence > e->last || e->last - sequence >= EVENTS_KEPT)
		return NULL;
	return &e->kept[sequence % EVENTS_KEPT];
}

void events_follow(struct events *e, struct event_follower *f) {
	list_append(&e->followers, &f->node);
}

void events_unfollow(struct event_follower *f) {
	list_unlink(&f->node);
}
