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

struct bus {
	struct list followers; /* struct follower */
};

void bus_init(struct bus *b);
/* The time is set here. */
void bus_tell(struct bus *b, Bulkhead__BusEvent *e);
/* Answers r with all that is told from now on, until its caller gives up. */
void bus_add(struct bus *b, struct msg_request *r);
