/*
 * What happened to pods and containers, in order, for whoever follows it. The
 * last EVENTS_KEPT are kept, so that a follower that fell behind knows by the
 * sequence number whether it missed any.
 */
#pragma once

#include "base/id.h"
#include "base/list.h"

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
	uint64_t last; /* sequence of the latest */
	struct event *kept;
	struct list followers; /* struct event_follower */
};

void events_init(struct events *e);
void events_deinit(struct events *e);
/* container_id NULL: the pod sandbox itself. */
void events_add(struct events *e, enum event_type type, const char *sandbox_id, const char *container_id);
/* The event with that number; NULL when it is too old or didn't happen yet. */
const struct event *events_get(const struct events *e, uint64_t sequence);
void events_follow(struct events *e, struct event_follower *f);
void events_unfollow(struct event_follower *f);
