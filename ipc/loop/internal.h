/* What the files of ipc/loop share; nobody else includes it. */
#pragma once

#include "base/list.h"
#include "loop/loop.h"

#include <liburing.h>

/* A source and the kernel's view of it meet in three flags:
 *   armed  an operation with this user_data is in the ring
 *   busy   its callback is running
 *   gone   its owner has freed it; memory goes when neither of the above holds */
struct loop_source {
	struct loop *loop;
	void (*complete)(struct loop_source *s, int res, unsigned flags); /* of its kind */
	int (*arm)(struct loop_source *s);				  /* of its kind */
	void *fn, *ctx;
	int fd;
	uint32_t events;
	bool armed, busy, gone, paused, fallback;
	bool data_only;
	struct buffer data;
	size_t done;
	int64_t offset;
	int64_t deadline;
	size_t heap_slot; /* 1-based place among the timers; 0: none */
	struct list node; /* deferred */
};

struct loop {
	struct io_uring ring;
	struct list known; /* in forked.c */
	bool running;
	int result;
	struct list deferred;
	struct loop_source **timers; /* binary heap, earliest at [1] */
	size_t n_timers, timers_room;
	struct io_uring_buf_ring *buffer_ring;
	uint8_t *buffers;
	unsigned n_buffers, buffer_size;
};

#define LOOP_BUFFER_GROUP 0

/* forked.c: of what forks find. -ENOMEM. */
int loop_known(struct loop *l);

struct loop_source *loop_source_new(struct loop *l, int fd, void *fn, void *ctx);
/* Drops a source that was never armed. */
void loop_source_drop(struct loop_source *s);
/* An entry of the submission queue for s, which counts as armed from here. */
struct io_uring_sqe *loop_sqe(struct loop_source *s);
void loop_cancel(struct loop_source *s);
int loop_timers_run(struct loop *l);
void loop_timer_forget(struct loop_source *s);
