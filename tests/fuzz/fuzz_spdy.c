/*
 * Whatever bytes a client sends as a SPDY session. The input's first byte says
 * in pieces of how many bytes it arrives; each event answers with something,
 * as a session would.
 *
 * Invariants beyond the sanitisers': there are never more streams than allowed,
 * no event names a stream that isn't open, what is sent stays within the
 * client's windows, and nothing comes after the end.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/stream/spdy.h"

#define STREAMS_MAX 4

struct client {
	struct spdy *spdy;
	uint32_t ids[STREAMS_MAX];
	size_t n_ids;
	size_t output;
	bool over;
};

static size_t place_of(const struct client *c, uint32_t id) {
	size_t i = 0;
	while (i < c->n_ids && c->ids[i] != id)
		i++;
	return i;
}

static bool opened(void *ctx, uint32_t id, const struct mux_stream *m) {
	struct client *c = ctx;
	require(!c->over && id % 2 == 1 && place_of(c, id) == c->n_ids);
	if (m->type[0] == 'r')
		return false;
	if (c->n_ids == STREAMS_MAX)
		return false;
	c->ids[c->n_ids++] = id;
	return true;
}

static void data(void *ctx, uint32_t id, const uint8_t *bytes, size_t size) {
	struct client *c = ctx;
	require(!c->over && place_of(c, id) < c->n_ids && size > 0);
	spdy_send(c->spdy, id, bytes, MIN(size, spdy_room(c->spdy, id)), false);
	spdy_consumed(c->spdy, id, size);
}

static void gone(struct client *c, uint32_t id) {
	size_t i = place_of(c, id);
	require(!c->over && i < c->n_ids);
	c->ids[i] = c->ids[--c->n_ids];
}

static void ended(void *ctx, uint32_t id) {
	struct client *c = ctx;
	spdy_send(c->spdy, id, "end", MIN((size_t)3, spdy_room(c->spdy, id)), true);
	gone(c, id);
}

static void reset(void *ctx, uint32_t id) {
	/* Streams that have ended in one direction may still be reset. */
	struct client *c = ctx;
	if (place_of(c, id) < c->n_ids)
		gone(c, id);
}

static void output(void *ctx, const void *bytes, size_t size) {
	struct client *c = ctx;
	c->output += size;
}

static void writable(void *ctx) {
}

static const struct mux_events events = { .opened = opened, .data = data, .ended = ended, .reset = reset };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
	struct client c = { 0 };
	const struct spdy_options options = {
		.events = &events, .output = output, .writable = writable, .ctx = &c, .streams_max = STREAMS_MAX
	};
	if (size == 0 || spdy_new(&options, &c.spdy) < 0)
		return 0;
	size_t piece = bytes[0] ? bytes[0] : 4096, total = --size;
	bytes++;
	while (size > 0 && !c.over) {
		size_t n = MIN(piece, size);
		c.over = spdy_feed(c.spdy, bytes, n) < 0;
		bytes += n;
		size -= n;
	}
	/* The smallest frame that is answered at all has 8 bytes. */
	require(c.output <= 64 * (total + 8));
	spdy_free(c.spdy);
	return 0;
}
