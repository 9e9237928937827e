/*
 * What SPDY and WebSocket have in common for those who use them: numbered
 * streams of bytes in both directions. With SPDY the numbers are the client's
 * stream ids, with WebSocket the channels.
 */
#pragma once

#include "base/macros.h"
#include "workers/stream/spdy_headers.h"

#include <stdbool.h>

/* How a client's new stream describes itself. */
struct mux_stream {
	char type[16];	  /* "stdin", "data", ... */
	char request[32]; /* of a forwarded port: which connection */
	char port[8];
};

/* What the client does. Any of the functions may end the connection; nothing
 * of it is freed before they are back. */
struct mux_events {
	/* False refuses the stream. Never called with WebSocket. */
	bool (*opened)(void *ctx, uint32_t id, const struct mux_stream *s);
	void (*data)(void *ctx, uint32_t id, const uint8_t *data, size_t size);
	/* The client sends nothing more on it. */
	void (*ended)(void *ctx, uint32_t id);
	/* The client has no more use for it in either direction. */
	void (*reset)(void *ctx, uint32_t id);
};
