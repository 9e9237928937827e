/*
 * Shared memory between two processes: all atomics live here.
 *
 * Each side has one memfd that it alone can write; the peer maps it read-only.
 * A side's memory holds the ring that it produces, and how far it has consumed
 * the peer's ring, so neither side can touch what the other relies on:
 *
 *   ours (read-write)                 the peer's (read-only to us)
 *     head: produced by us              head: produced by the peer
 *     tail: consumed of the peer's      tail: consumed of ours
 *     asleep: the number of my sleep,   asleep
 *       wake me once when you produce
 *     full: wake me when you consume    full
 *     data[]                            data[]
 *
 * Positions run freely and are masked; what the peer claims is checked before
 * it is used, and a record is copied out before anyone looks into it. A record
 * is a 32-bit length and that many bytes, padded to 8.
 */
#pragma once

#include "base/buffer.h"

#include <stdbool.h>

#define RING_DATA_SIZE (64 * 1024)
#define RING_RECORD_MAX (32 * 1024)

struct ring_page;

struct ring {
	struct ring_page *ours, *theirs;
	uint32_t head, tail;   /* what we know without asking shared memory */
	uint32_t sleeps;       /* how often we slept: the number of this sleep */
	uint32_t woken;	       /* the peer's sleep that we have already ended */
	unsigned batch, spins; /* records since the last sleep; how long to look before the next */
};

/* Makes one side's memory: *ret_rw for its owner, *ret_ro for the peer. */
int ring_memory_new(int *ret_rw, int *ret_ro) NODISCARD;
/* Maps both; the descriptors may be closed afterwards. -EINVAL when they are
 * not of the right size and seals. */
int ring_init(struct ring *r, int ours_rw, int theirs_ro) NODISCARD;
void ring_deinit(struct ring *r);

/* Appends one record made of two parts. Returns 0, 1 when the peer sleeps and
 * must be woken, -EAGAIN when there is no room (the peer will wake us when
 * there is), -EBADMSG when the peer's positions are impossible. */
int ring_push(struct ring *r, const void *head, size_t head_size, const void *body, size_t body_size);
/* Copies the next record into *ret_record (replacing its content). Returns 1
 * for a record, 0 for none, -EBADMSG when the peer breaks the protocol. */
int ring_pop(struct ring *r, struct buffer *ret_record);
/* After ring_pop said 0: declares that we sleep. Returns false when a record
 * came meanwhile; then we are awake and must pop again. */
bool ring_sleep(struct ring *r);
/* Whether the peer waits for room that we have made; clears nothing, ask once
 * after a batch of pops. */
bool ring_peer_waits(struct ring *r);
