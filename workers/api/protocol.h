/*
 * What a connection speaks, as its owner sees it: bytes of the client in, bytes
 * for the client out. One session per connection.
 *
 * Whenever there are bytes to take the session says so by wants_output; the
 * owner then calls output, never from within wants_output.
 */
#pragma once

#include "base/buffer.h"
#include "workers/api/budget.h"
#include "workers/api/credentials.h"

struct protocol_options {
	void *owner; /* whoever answers what is asked */
	void (*wants_output)(void *ctx);
	void *ctx;
	struct budget *budget; /* of all connections */
	struct credentials peer;
	bool line; /* nothing tells the end of one client from the start of the next */
};

struct protocol {
	int (*open)(const struct protocol_options *options, void **ret_session);
	/* Cancels what is open. NULL does nothing. */
	void (*close)(void *session);
	/* A negative errno ends the session: take what output still has. */
	int (*input)(void *session, const uint8_t *data, size_t size);
	/* Appends what is to be sent, until out holds about max bytes. */
	int (*output)(void *session, struct buffer *out, size_t max);
	/* What output has may wait a moment for what comes next; or NULL. */
	bool (*can_wait)(const void *session);
	/* Nothing more to send or to receive. */
	bool (*over)(const void *session);
	/* The client leaves so much unread that it shouldn't be listened to. */
	bool (*clogged)(const void *session);
	/* No new requests from here on; open ones go on. */
	void (*stop)(void *session);
};
