/*
 * The server's side of a SPDY/3.1 session, as bytes in and bytes out; it knows
 * nothing of sockets.
 *
 * Bounds: a control frame has at most SPDY_CONTROL_MAX bytes, data frames are
 * passed on as they come, there are at most .streams_max streams at a time.
 *
 * Windows: the client that never speaks of windows doesn't know them (that of
 * Go is such a one, and would never open ours), so ours to send counts from
 * the moment when it does. What it may send is opened as it is consumed.
 */
#pragma once

#include "workers/stream/mux.h"

#define SPDY_CONTROL_MAX 16384
#define SPDY_WINDOW 65536

struct spdy;

struct spdy_options {
	const struct mux_events *events;
	void (*output)(void *ctx, const void *data, size_t size);
	/* Some window has opened. */
	void (*writable)(void *ctx);
	void *ctx;
	size_t streams_max;
};

int spdy_new(const struct spdy_options *options, struct spdy **ret_spdy) NODISCARD;
void spdy_free(struct spdy *s);
/* -EPROTO: the session is over, a GOAWAY says so; -ENOMEM. Stops early when a
 * callback has called spdy_stop. */
int spdy_feed(struct spdy *s, const uint8_t *data, size_t size) NODISCARD;
void spdy_stop(struct spdy *s);
/* How many bytes may be sent now. */
size_t spdy_room(const struct spdy *s, uint32_t id);
/* Sends all of it, in one frame; last: nothing more follows. */
void spdy_send(struct spdy *s, uint32_t id, const void *data, size_t size, bool last);
/* So much of what arrived is out of the way. */
void spdy_consumed(struct spdy *s, uint32_t id, size_t size);
void spdy_reset(struct spdy *s, uint32_t id);
void spdy_goaway(struct spdy *s);
/* All streams that there will be are there: later ones are refused, and what
 * only new ones need is given back. */
void spdy_complete(struct spdy *s);
