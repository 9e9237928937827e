#include "workers/metadata/object/bus.h"

#include "base/clock.h"
#include "workers/metadata/cri.h"

struct follower {
	struct list node;
	struct msg_request *r;
};

void bus_init(struct bus *b) {
	list_init(&b->followers);
}

void bus_tell(struct bus *b, Bulkhead__BusEvent *e) {
	e->time = clock_real();
	list_for_each_safe (n, &b->followers)
		bus_follow_reply_part(list_entry(n, struct follower, node)->r, e);
}

static void gave_up(struct msg_request *r, void *ctx) {
	struct follower *f = ctx;
	list_unlink(&f->node);
	msg_failf(r, FAULT_CANCELLED, "the subscriber is gone");
}

void bus_add(struct bus *b, struct msg_request *r) {
	struct follower *f = arena_zalloc(&r->arena, sizeof(*f));
	if (!f) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "subscribe to events: out of memory");
		return;
	}
	f->r = r;
	r->cancelled = gave_up;
	r->cancelled_ctx = f;
	list_append(&b->followers, &f->node);
}

void bus_follow(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	bus_add(&m->bus, r);
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
