/*
 * The server's side of a WebSocket (RFC 6455), as bytes in and bytes out, over
 * wslay, which is known in websocket.c only. Messages are passed on in pieces
 * as they come and never collected; pings are answered by the library.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

struct websocket;

struct websocket_events {
	/* A message begins, in pieces, ends. */
	void (*begins)(void *ctx, bool text);
	void (*piece)(void *ctx, const uint8_t *data, size_t size);
	void (*ends)(void *ctx);
	/* The client says goodbye. */
	void (*closed)(void *ctx);
	void (*output)(void *ctx, const void *data, size_t size);
};

#define WEBSOCKET_KEY_MAX 64
#define WEBSOCKET_ACCEPT_SIZE 29

/* Sec-WebSocket-Accept for a Sec-WebSocket-Key; -EBADMSG: that is none. */
int websocket_accept(const char *key, char ret_accept[WEBSOCKET_ACCEPT_SIZE]) NODISCARD;

int websocket_new(const struct websocket_events *events, void *ctx, struct websocket **ret_websocket) NODISCARD;
void websocket_free(struct websocket *w);
/* -EPROTO: the client broke the protocol; -ENOMEM. Stops early when a callback
 * has called websocket_stop. */
int websocket_feed(struct websocket *w, const uint8_t *data, size_t size) NODISCARD;
void websocket_stop(struct websocket *w);
int websocket_send(struct websocket *w, bool text, const void *data, size_t size) NODISCARD;
/* Nothing can be sent afterwards. */
void websocket_close(struct websocket *w);
