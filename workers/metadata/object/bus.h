/*
 * What happens to objects and tasks, told to whoever follows it now: containerd's
 * events. Nothing is kept for those who come later, as with containerd. (The
 * CRI's events, which are numbered and stored, are workers/metadata/event.h.)
 *
 * Told is what is committed, or happened anyway.
 */
#pragma once

#include "base/list.h"
#include "internal/ctask.pb-c.h"
#include "msg/msg.h"
#include "workers/metadata/store/store.h"

struct bus {
	struct list followers; /* struct follower */
	struct store *store;
	struct bus_queue {
		struct bus *bus;
		struct list events; /* struct untold */
		struct store_waiter commit;
		bool waiting;
	} queues[STORE_BASES];
};

void bus_init(struct bus *b);
/* Before the store is closed. */
void bus_deinit(struct bus *b);
/* Somebody listens: else nothing needs to be said. */
bool bus_followed(const struct bus *b);
/* The time is set here. */
void bus_tell(struct bus *b, Bulkhead__BusEvent *e);
/* Once what was put in the base so far is committed. */
void bus_tell_committed(struct bus *b, enum store_base base, const Bulkhead__BusEvent *e);
