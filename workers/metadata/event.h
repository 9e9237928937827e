/*
 * What happened to pods and containers, in order, for whoever follows it. The
 * last EVENTS_KEPT are kept in memory and in the store, in the same transaction
 * as the change that they tell of: numbers and order survive a restart of this
 * worker, and whoever fell behind knows by the number whether it missed any.
 *
 * Followers hear of an event once it is committed, never before: what was told
 * can't be taken back.
 */
#pragma once

#include "base/id.h"
#include "base/list.h"
#include "internal/event.pb-c.h"
#include "workers/metadata/store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENTS_KEPT 1024

enum event_type {
	EVENT_CREATED,
	EVENT_STARTED,
	EVENT_STOPPED,
	EVENT_DELETED,
	EVENT_OOM,
};

struct event {
	uint64_t sequence; /* from 1, without gaps */
	int64_t time;	   /* clock_real */
	enum event_type type;
	bool sandbox; /* of the pod sandbox itself: container_id is its id */
	char container_id[ID_SIZE + 12], sandbox_id[ID_SIZE + 12];
};

struct event_follower {
	struct list node;
	void (*fn)(void *ctx, const struct event *e);
	void *ctx;
};

struct events {
	struct store *store;
	uint64_t last; /* sequence of the latest */
	uint64_t told; /* and of the latest that followers know */
	struct event *kept;
	struct list followers; /* struct event_follower */
	struct store_waiter commit;
	bool waiting;
};

void events_init(struct events *e);
/* Before the store is closed. */
void events_deinit(struct events *e);
/* One record of an earlier process; then, with the store, the rest. */
int events_load(struct events *e, const Bulkhead__EventRecord *r);
void events_begin(struct events *e, struct store *store);
/* container_id NULL: the pod sandbox itself. */
void events_add(struct events *e, enum event_type type, const char *sandbox_id, const char *container_id);
/* The event with that number; NULL when it is too old or didn't happen yet. */
const struct event *events_get(const struct events *e, uint64_t sequence);
/* The follower hears of all events after events.told. */
void events_follow(struct events *e, struct event_follower *f);
void events_unfollow(struct event_follower *f);
