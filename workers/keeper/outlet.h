/*
 * A descriptor that what is fed to it is written to as fast as it takes it; the
 * rest waits in memory. Who feeds it is to stop while it is behind.
 */
#pragma once

#include "base/buffer.h"
#include "loop/loop.h"

#include <stdbool.h>

struct outlet {
	struct loop *loop;
	int fd; /* -1: closed, or nobody reads it any more; takes everything and loses it */
	struct loop_source *ready;
	struct buffer pending;
	void (*changed)(void *ctx); /* some of the rest was taken, or nobody reads it any more */
	void *ctx;
};

#define OUTLET_NONE \
	{ .fd = -1 }

/* Takes fd, also on failure, and makes it non-blocking. */
int outlet_open(struct outlet *o, struct loop *loop, int fd, void (*changed)(void *ctx), void *ctx);
/* What waits is lost. */
void outlet_close(struct outlet *o);
void outlet_feed(struct outlet *o, const void *data, size_t size);
static inline bool outlet_behind(const struct outlet *o) {
	return o->pending.size > 0;
}
