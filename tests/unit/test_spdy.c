/* SPDY sessions, frame by frame. Clients that compress are in
 * tests/integration/test_streaming.py; here blocks are stored ones. */
#include "base/buffer.h"
#include "tap.h"
#include "workers/stream/spdy.h"

#include <errno.h>
#include <string.h>

struct client {
	struct spdy *spdy;
	struct buffer out;
	char log[256];
	bool first;
};

static void note(struct client *c, const char *what, uint32_t id) {
	size_t n = strlen(c->log);
	snprintf(c->log + n, sizeof(c->log) - n, "%s%u ", what, id);
}

static bool opened(void *ctx, uint32_t id, const struct mux_stream *m) {
	note(ctx, m->type, id);
	return strcmp(m->type, "bad") != 0;
}
static void data(void *ctx, uint32_t id, const uint8_t *bytes, size_t size) {
	note(ctx, "data", id);
}
static void ended(void *ctx, uint32_t id) {
	note(ctx, "end", id);
}
static void reset(void *ctx, uint32_t id) {
	note(ctx, "reset", id);
}
static void output(void *ctx, const void *bytes, size_t size) {
	struct client *c = ctx;
	buffer_add(&c->out, bytes, size);
}
static void writable(void *ctx) {
	note(ctx, "room", 0);
}

static void begin(struct client *c, size_t streams_max) {
	static const struct mux_events events = { .opened = opened, .data = data, .ended = ended, .reset = reset };
	const struct spdy_options o = {
		.events = &events, .output = output, .writable = writable, .ctx = c, .streams_max = streams_max
	};
	*c = (struct client){ .first = true };
	if (spdy_new(&o, &c->spdy) < 0)
		abort();
}

static void end(struct client *c) {
	spdy_free(c->spdy);
	buffer_deinit(&c->out);
}

static int feed(struct client *c, const void *bytes, size_t size) {
	c->log[0] = '\0';
	buffer_deinit(&c->out);
	return spdy_feed(c->spdy, bytes, size);
}

static void put32(uint8_t *p, uint32_t n) {
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(n >> (24 - 8 * i));
}

static int control(struct client *c, uint8_t type, uint8_t flags, const void *payload, size_t size) {
	uint8_t frame[512] = { 0x80, 3, 0, type };
	put32(frame + 4, (uint32_t)size);
	frame[4] = flags;
	memcpy(frame + 8, payload, size);
	return feed(c, frame, 8 + size);
}

static int two(struct client *c, uint8_t type, uint32_t a, uint32_t b) {
	uint8_t payload[8];
	put32(payload, a);
	put32(payload + 4, b);
	return control(c, type, 0, payload, 8);
}

/* One field, "streamtype", in a stored block. */
static int syn(struct client *c, uint32_t id, uint8_t flags, const char *type) {
	uint8_t p[256] = { 0 };
	size_t n = 10, name = strlen("streamtype"), value = strlen(type), text = 4 + 4 + name + 4 + value;
	put32(p, id);
	if (c->first) {
		p[n++] = 0x78;
		p[n++] = 0x01;
	}
	c->first = false;
	n++;
	p[n++] = (uint8_t)text;
	p[n++] = 0;
	p[n++] = (uint8_t)~text;
	p[n++] = 0xff;
	put32(p + n, 1);
	put32(p + n + 4, (uint32_t)name);
	memcpy(p + n + 8, "streamtype", name);
	put32(p + n + 8 + name, (uint32_t)value);
	memcpy(p + n + 12 + name, type, value);
	n += text;
	return control(c, 1, flags, p, n);
}

static int send_data(struct client *c, uint32_t id, uint8_t flags, size_t size) {
	uint8_t frame[300] = { 0 };
	put32(frame, id);
	put32(frame + 4, (uint32_t)size);
	frame[4] = flags;
	return feed(c, frame, 8 + size);
}

/* Whether the output begins with a control frame of this type. */
static bool says(const struct client *c, uint8_t type) {
	return c->out.size >= 8 && c->out.data[0] == 0x80 && c->out.data[1] == 3 && c->out.data[3] == type;
}

static void test_streams(void) {
	struct client c;
	begin(&c, 2);
	tap_check(syn(&c, 1, 0, "error") == 0 && strcmp(c.log, "error1 ") == 0 && says(&c, 2), "a stream is answered");
	tap_check(syn(&c, 3, 0, "bad") == 0 && strcmp(c.log, "bad3 ") == 0, "one may be refused");
	tap_check(syn(&c, 5, 1, "data") == 0 && strcmp(c.log, "data5 end5 ") == 0, "one may be half-closed at once");
	tap_check(syn(&c, 7, 0, "more") == 0 && c.log[0] == '\0' && says(&c, 3), "there are no more than allowed");
	tap_check(send_data(&c, 1, 0, 10) == 0 && strcmp(c.log, "data1 ") == 0, "bytes arrive");
	tap_check(send_data(&c, 5, 0, 10) == 0 && c.log[0] == '\0' && says(&c, 3), "none after the end");
	tap_check(send_data(&c, 1, 1, 0) == 0 && strcmp(c.log, "end1 ") == 0, "an end arrives");
	tap_check(two(&c, 3, 1, 5) == 0 && strcmp(c.log, "reset1 ") == 0, "a reset arrives");
	tap_check(two(&c, 3, 1, 5) == 0 && c.log[0] == '\0', "once");
	end(&c);
}

static void test_violations(void) {
	static const uint8_t version[8] = { 0x80, 2, 0, 6 }, large[8] = { 0x80, 3, 0, 6, 0, 0xff, 0xff, 0xff };
	static const uint8_t settings[12] = { 0, 0, 0, 200 };
	struct client c;
	begin(&c, 2);
	tap_check(feed(&c, version, 8) == -EPROTO && says(&c, 7), "another version ends the session");
	end(&c);
	begin(&c, 2);
	tap_check(feed(&c, large, 8) == -EPROTO && says(&c, 7), "so does a control frame that is too large");
	end(&c);
	begin(&c, 2);
	tap_check(syn(&c, 3, 0, "a") == 0 && syn(&c, 3, 0, "a") == -EPROTO && says(&c, 7),
		  "a stream id that isn't new");
	end(&c);
	begin(&c, 2);
	tap_check(syn(&c, 2, 0, "a") == -EPROTO, "an even one");
	end(&c);
	begin(&c, 2);
	tap_check(send_data(&c, 9, 0, 1) == -EPROTO, "bytes of a stream that never was");
	end(&c);
	begin(&c, 2);
	tap_check(control(&c, 4, 0, settings, 12) == -EPROTO, "settings that count wrong");
	end(&c);
	begin(&c, 2);
	tap_check(control(&c, 1, 0, "\0\0\0\1\0\0\0\0\0\0garbage", 17) == -EPROTO, "fields that don't inflate");
	end(&c);
}

static void test_windows(void) {
	static uint8_t bytes[1000];
	struct client c;
	begin(&c, 4);
	syn(&c, 1, 0, "stdout");
	for (int i = 0; i < 200; i++)
		spdy_send(c.spdy, 1, bytes, sizeof(bytes), false);
	tap_check(spdy_room(c.spdy, 1) == SPDY_WINDOW, "a client that knows no windows isn't held to them");
	tap_check(two(&c, 9, 1, 1000) == 0 && spdy_room(c.spdy, 1) == 0, "one that does is, from then on");
	tap_check(two(&c, 9, 0, 300000) == 0 && two(&c, 9, 1, 200000) == 0 &&
		      spdy_room(c.spdy, 1) == 65536 + 1000 + 200000 - 200000 && strstr(c.log, "room"),
		  "what it opens may be used");
	tap_check(two(&c, 9, 1, 0x7fffffff) == 0 && says(&c, 3), "a window that overflows resets its stream");
	tap_check(two(&c, 9, 0, 0x7fffffff) == -EPROTO, "and that of the session ends it");
	end(&c);
	begin(&c, 4);
	syn(&c, 1, 0, "stdin");
	buffer_deinit(&c.out);
	spdy_consumed(c.spdy, 1, 100);
	tap_check(c.out.size == 0, "consumed bytes are told in portions");
	spdy_consumed(c.spdy, 1, SPDY_WINDOW / 4);
	tap_check(says(&c, 9) && c.out.size == 32, "of the stream and of the session");
	end(&c);
}

static void test_pieces(void) {
	struct client c;
	begin(&c, 4);
	static const uint8_t ping[12] = { 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1 };
	bool ok = true;
	for (size_t i = 0; i < sizeof(ping); i++)
		ok &= feed(&c, ping + i, 1) == 0;
	tap_check(ok && says(&c, 6) && c.out.size == 12, "frames may come byte by byte");
	spdy_stop(c.spdy);
	tap_check(feed(&c, ping, sizeof(ping)) == 0 && c.out.size == 0, "a stopped session says nothing more");
	end(&c);
}

int main(void) {
	test_streams();
	test_violations();
	test_windows();
	test_pieces();
	return tap_done();
}
