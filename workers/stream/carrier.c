/*
 * A connection's streams, by whatever carries them.
 *
 *   SPDY                  a stream is a SPDY stream
 *   WebSocket             a stream is a channel; each message begins with its
 *                         number, as a byte or, in base64, as a digit
 *   SPDY in WebSocket     messages are pieces of a SPDY session's bytes
 *
 * Channel 255 of v5.channel.k8s.io ends the channel that it names.
 */
#include "workers/stream/stream.h"

#include "workers/stream/websocket.h"

#include <errno.h>
#include <string.h>

#define PORTION 16384
#define CLOSE_CHANNEL 255

/* --- SPDY --- */

static void spdy_output(void *ctx, const void *data, size_t size) {
	struct conn *c = ctx;
	buffer_add(c->tunnelled ? &c->tunnel : &c->out, data, size);
}

static void spdy_writable(void *ctx) {
	struct conn *c = ctx;
	if (conn_open(c) && c->session)
		c->class->writable(c->session);
}

static bool spdy_opened(void *ctx, uint32_t id, const struct mux_stream *m) {
	struct conn *c = ctx;
	return conn_open(c) && c->session && c->class->mux.opened(c->session, id, m);
}

static void spdy_data(void *ctx, uint32_t id, const uint8_t *data, size_t size) {
	struct conn *c = ctx;
	if (conn_open(c) && c->session)
		c->class->mux.data(c->session, id, data, size);
}

static void spdy_ended(void *ctx, uint32_t id) {
	struct conn *c = ctx;
	if (conn_open(c) && c->session)
		c->class->mux.ended(c->session, id);
}

static void spdy_reset_by_client(void *ctx, uint32_t id) {
	struct conn *c = ctx;
	if (conn_open(c) && c->session)
		c->class->mux.reset(c->session, id);
}

static const struct mux_events spdy_events = {
	.opened = spdy_opened,
	.data = spdy_data,
	.ended = spdy_ended,
	.reset = spdy_reset_by_client,
};

/* What SPDY has said becomes a message. */
static void tunnel_flush(struct conn *c) {
	if (c->tunnel.size == 0)
		return;
	if (c->tunnel.failed || websocket_send(c->websocket, false, c->tunnel.data, c->tunnel.size) < 0)
		conn_fail(c, "out of memory");
	buffer_deinit(&c->tunnel);
}

/* --- WebSocket --- */

static void message_begins(void *ctx, bool text) {
	struct conn *c = ctx;
	c->channel_known = false;
	c->decoder = (struct base64){ 0 };
}

static void channel_data(struct conn *c, const uint8_t *data, size_t size) {
	if (size == 0 || !conn_open(c) || !c->session)
		return;
	if (c->channel == CLOSE_CHANNEL)
		c->class->mux.ended(c->session, data[0]);
	else
		c->class->mux.data(c->session, c->channel, data, size);
}

static void channel_text(struct conn *c, const uint8_t *text, size_t size) {
	uint8_t data[PORTION / 4 * 3 + 3];
	while (size > 0 && conn_open(c)) {
		size_t n = MIN(size, (size_t)PORTION);
		ssize_t got = base64_decode(&c->decoder, text, n, data);
		if (got < 0) {
			conn_fail(c, "the client sends no base64");
			return;
		}
		channel_data(c, data, (size_t)got);
		text += n;
		size -= n;
	}
}

static void message_piece(void *ctx, const uint8_t *data, size_t size) {
	struct conn *c = ctx;
	if (c->tunnelled) {
		if (spdy_feed(c->spdy, data, size) < 0) {
			tunnel_flush(c);
			conn_flush(c);
			conn_fail(c, "the client broke the protocol");
		}
		return;
	}
	if (!c->channel_known) {
		c->channel_known = true;
		c->channel = c->base64 ? (uint8_t)(data[0] - '0') : data[0];
		data++;
		size--;
	}
	if (c->base64)
		channel_text(c, data, size);
	else
		channel_data(c, data, size);
}

static void message_ends(void *ctx) {
}

static void websocket_closed(void *ctx) {
	struct conn *c = ctx;
	conn_finish(c);
}

static void websocket_output(void *ctx, const void *data, size_t size) {
	struct conn *c = ctx;
	buffer_add(&c->out, data, size);
}

static const struct websocket_events websocket_events = {
	.begins = message_begins,
	.piece = message_piece,
	.ends = message_ends,
	.closed = websocket_closed,
	.output = websocket_output,
};

static void channel_send(struct conn *c, uint8_t channel, const void *data, size_t size) {
	char text[1 + BASE64_SIZE(PORTION)];
	while (conn_open(c)) {
		size_t n = MIN(size, (size_t)PORTION), m = n;
		text[0] = (char)(c->base64 ? '0' + channel : channel);
		if (c->base64) {
			base64_encode(data, n, text + 1);
			m = BASE64_SIZE(n);
		} else if (n > 0) {
			memcpy(text + 1, data, n);
		}
		if (websocket_send(c->websocket, c->base64, text, 1 + m) < 0)
			conn_fail(c, "out of memory");
		data = (const char *)data + n;
		size -= n;
		if (size == 0)
			return;
	}
}

/* --- both --- */

int carrier_open(struct conn *c, const struct upgrade *u, size_t streams_max) {
	struct spdy_options options = {
		.events = &spdy_events,
		.output = spdy_output,
		.writable = spdy_writable,
		.ctx = c,
		.streams_max = streams_max,
	};
	c->tunnelled = u->tunnel;
	c->base64 = u->base64;
	int r = u->websocket ? websocket_new(&websocket_events, c, &c->websocket) : 0;
	if (r == 0 && (!u->websocket || u->tunnel))
		r = spdy_new(&options, &c->spdy);
	return r;
}

void carrier_free(struct conn *c) {
	spdy_free(c->spdy);
	websocket_free(c->websocket);
	buffer_deinit(&c->tunnel);
}

int carrier_feed(struct conn *c, const uint8_t *data, size_t size) {
	int r = c->websocket ? websocket_feed(c->websocket, data, size) : spdy_feed(c->spdy, data, size);
	if (c->tunnelled && conn_open(c))
		tunnel_flush(c);
	return r;
}

void carrier_close(struct conn *c) {
	if (c->spdy)
		spdy_goaway(c->spdy);
	if (c->tunnelled)
		tunnel_flush(c);
	if (c->websocket)
		websocket_close(c->websocket);
}

void carrier_stop(struct conn *c) {
	if (c->spdy)
		spdy_stop(c->spdy);
	if (c->websocket)
		websocket_stop(c->websocket);
}

size_t conn_room(struct conn *c, uint32_t id) {
	c->starved |= c->out.size >= OUTPUT_MAX;
	if (!conn_open(c) || c->out.size >= OUTPUT_MAX)
		return 0;
	return c->spdy ? MIN(spdy_room(c->spdy, id), (size_t)PORTION) : PORTION;
}

void conn_send(struct conn *c, uint32_t id, const void *data, size_t size, bool last) {
	if (!conn_open(c))
		return;
	if (c->spdy)
		spdy_send(c->spdy, id, data, size, last);
	else if (size > 0 || !last)
		channel_send(c, (uint8_t)id, data, size);
	if (c->tunnelled)
		tunnel_flush(c);
	conn_flush(c);
}

void conn_consumed(struct conn *c, uint32_t id, size_t size) {
	if (!conn_open(c) || !c->spdy)
		return;
	spdy_consumed(c->spdy, id, size);
	if (c->tunnelled)
		tunnel_flush(c);
	conn_flush(c);
}

void conn_reset(struct conn *c, uint32_t id) {
	if (!conn_open(c) || !c->spdy)
		return;
	spdy_reset(c->spdy, id);
	if (c->tunnelled)
		tunnel_flush(c);
	conn_flush(c);
}

void conn_complete(struct conn *c) {
	if (c->spdy)
		spdy_complete(c->spdy);
}
