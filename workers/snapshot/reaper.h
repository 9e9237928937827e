/*
 * Empties the trash of both rooms in a child of low priority. What was thrown
 * away before a child began is gone when it ends; what came later waits for the
 * next one.
 */
#pragma once

#include "base/list.h"
#include "loop/child.h"
#include "workers/snapshot/rooms.h"

struct reaper {
	struct loop *loop;
	const struct rooms *rooms;
	struct child *child;
	struct loop_source *timer;
	bool again;
	struct list running, waiting; /* of struct reap_wait */
};

/* Who wants to know when the disk is free. fault is NULL on success. */
struct reap_wait {
	struct list node;
	void (*done)(struct reap_wait *w, const struct fault *fault);
};

void reaper_init(struct reaper *r, struct loop *loop, const struct rooms *rooms);
/* Something is in the trash; soon is enough. */
void reaper_soon(struct reaper *r);
/* Something is in the trash; w->done is called when it is gone. */
void reaper_now(struct reaper *r, struct reap_wait *w);
