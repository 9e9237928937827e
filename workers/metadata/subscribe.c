/*
 * events: the stream behind GetContainerEvents. It lasts until the subscriber
 * goes away, over restarts of this worker too: the request comes again, what
 * happened since it was first sent is told again, and the API worker knows by
 * the numbers which of it is new.
 *
 * Nothing is queued here: an event goes into the subscriber's stream at once,
 * and the API worker cuts off a client that leaves too many unread.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/view.h"

struct subscriber {
	struct metadata *m;
	struct msg_request *r;
	struct event_follower follower;
};

/* The pod as it is now, which may be later than the event. */
static void pod_fill(struct metadata *m, struct arena *a, const struct event *e,
		     Runtime__V1__ContainerEventResponse *v) {
	struct map_node *n = map_find(&m->model.sandbox_ids, e->sandbox_id);
	const struct sandbox *s = n ? container_of(n, struct sandbox, by_id) : NULL;
	if (!s || !sandbox_visible(s))
		return;
	v->pod_sandbox_status = view_sandbox_status(a, s);
	v->n_containers_statuses = view_container_statuses(m, a, s, &v->containers_statuses);
}

static void tell(void *ctx, const struct event *e) {
	static const Runtime__V1__ContainerEventType types[] = {
		[EVENT_CREATED] = RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_CREATED_EVENT,
		[EVENT_STARTED] = RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT,
		[EVENT_STOPPED] = RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STOPPED_EVENT,
		[EVENT_DELETED] = RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT,
	};
	struct subscriber *s = ctx;
	Bulkhead__EventsReply a = BULKHEAD__EVENTS_REPLY__INIT;
	Runtime__V1__ContainerEventResponse v = RUNTIME__V1__CONTAINER_EVENT_RESPONSE__INIT;
	struct arena arena;
	arena_init(&arena, 0);
	a.sequence = e->sequence;
	if (e->type != EVENT_OOM) {
		v.container_id = (char *)(uintptr_t)e->container_id;
		v.container_event_type = types[e->type];
		v.created_at = e->time;
		pod_fill(s->m, &arena, e, &v);
		a.event = &v;
	}
	events_reply_part(s->r, &a);
	arena_deinit(&arena);
}

static void gone(struct msg_request *r, void *ctx) {
	struct subscriber *s = ctx;
	events_unfollow(&s->follower);
	msg_failf(r, FAULT_CANCELLED, "the subscriber has gone");
}

/* Where the telling starts: behind the newest event that isn't after since. */
static uint64_t begin_after(const struct events *e, int64_t since) {
	uint64_t n = e->told;
	for (const struct event *ev; (ev = events_get(e, n)) && ev->time > since;)
		n--;
	return n;
}

void events(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__EventsRequest *q = (const Bulkhead__EventsRequest *)request;
	Bulkhead__EventsReply a = BULKHEAD__EVENTS_REPLY__INIT;
	struct subscriber *s = arena_zalloc(&r->arena, sizeof(*s));
	if (!s) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "container events: out of memory");
		return;
	}
	*s = (struct subscriber){ .m = m, .r = r, .follower = { .fn = tell, .ctx = s } };
	r->cancelled = gone;
	r->cancelled_ctx = s;
	a.sequence = begin_after(&m->events, q->since);
	a.begin = true;
	events_reply_part(r, &a);
	for (uint64_t n = a.sequence + 1; n <= m->events.told; n++)
		tell(s, events_get(&m->events, n));
	events_follow(&m->events, &s->follower);
}
