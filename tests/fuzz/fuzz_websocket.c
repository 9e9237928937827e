/*
 * Whatever a client sends before and as WebSocket messages. The input's first
 * byte says in pieces of how many bytes it arrives; what begins like a request
 * is read as one, the rest as frames.
 *
 * Invariants beyond the sanitisers': pieces come only within messages, a
 * protocol is chosen only for an upgrade, base64 gives no more than its room.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/stream/base64.h"
#include "workers/stream/json.h"
#include "workers/stream/upgrade.h"

#include <string.h>

struct client {
	struct websocket *websocket;
	bool within, closed;
	struct base64 decoder;
};

static void begins(void *ctx, bool text) {
	struct client *c = ctx;
	require(!c->within && !c->closed);
	c->within = true;
	c->decoder = (struct base64){ 0 };
}

static void piece(void *ctx, const uint8_t *data, size_t size) {
	struct client *c = ctx;
	uint8_t *room = malloc(size / 4 * 3 + 3);
	unsigned short width, height;
	require(c->within && size > 0);
	if (room && base64_decode(&c->decoder, data, size, room) > (ssize_t)(size / 4 * 3 + 3))
		abort();
	free(room);
	json_read_size((const char *)data, size, &width, &height);
	if (size < 256)
		require(websocket_send(c->websocket, false, data, size) == 0);
}

static void ends(void *ctx) {
	struct client *c = ctx;
	require(c->within);
	c->within = false;
}

static void closed(void *ctx) {
	struct client *c = ctx;
	c->closed = true;
	websocket_close(c->websocket);
}

static void output(void *ctx, const void *data, size_t size) {
}

static const struct websocket_events events = {
	.begins = begins, .piece = piece, .ends = ends, .closed = closed, .output = output
};

static void request(const uint8_t *data, size_t size) {
	struct http_request r;
	struct upgrade u;
	const char *why = NULL;
	CLEANUP_BUFFER struct buffer head = { 0 };
	ssize_t n = http_head_size(data, size);
	if (n <= 0)
		return;
	buffer_add(&head, data, (size_t)n);
	if (http_parse((char *)head.data, head.size, &r) < 0)
		return;
	for (int kind = UPGRADE_REMOTE; kind <= UPGRADE_FORWARD; kind++) {
		int status = upgrade_choose(&r, (enum upgrade_kind)kind, &u, &why);
		require(status ? why != NULL : http_header_has(&r, "Connection", "Upgrade"));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct client c = { 0 };
	if (size == 0)
		return 0;
	size_t step = data[0] ? data[0] : 4096;
	data++;
	size--;
	request(data, size);
	if (websocket_new(&events, &c, &c.websocket) < 0)
		return 0;
	int r = 0;
	while (size > 0 && r == 0) {
		size_t n = MIN(step, size);
		r = websocket_feed(c.websocket, data, n);
		data += n;
		size -= n;
	}
	websocket_free(c.websocket);
	return 0;
}
