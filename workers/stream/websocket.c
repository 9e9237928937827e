#include "workers/stream/websocket.h"

#include "workers/stream/base64.h"
#include "workers/stream/sha1.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <wslay/wslay.h>

struct websocket {
	const struct websocket_events *events;
	void *ctx;
	wslay_event_context_ptr wslay;
	const uint8_t *data; /* what is being fed */
	size_t size;
	bool control, last; /* the frame that arrives */
	uint8_t head[14];   /* the same, as masked() sees it */
	size_t have;
	uint64_t left;
	bool stopped, closed;
};

/* --- the handshake --- */

int websocket_accept(const char *key, char ret_accept[WEBSOCKET_ACCEPT_SIZE]) {
	/* RFC 6455, 4.2.2; the key is 16 bytes in base64. */
	static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	char text[24 + sizeof(suffix)];
	uint8_t digest[SHA1_SIZE];
	if (strlen(key) != 24 ||
	    strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") != 22 ||
	    strcmp(key + 22, "==") != 0)
		return -EBADMSG;
	snprintf(text, sizeof(text), "%s%s", key, suffix);
	sha1(text, strlen(text), digest);
	base64_encode(digest, sizeof(digest), ret_accept);
	ret_accept[WEBSOCKET_ACCEPT_SIZE - 1] = '\0';
	return 0;
}

/* --- the library's callbacks --- */

static ssize_t on_recv(wslay_event_context_ptr c, uint8_t *buf, size_t size, int flags, void *ctx) {
	struct websocket *w = ctx;
	if (w->size == 0 || w->stopped) {
		wslay_event_set_error(c, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	size_t n = MIN(size, w->size);
	memcpy(buf, w->data, n);
	w->data += n;
	w->size -= n;
	return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr c, const uint8_t *data, size_t size, int flags, void *ctx) {
	struct websocket *w = ctx;
	w->events->output(w->ctx, data, size);
	return (ssize_t)size;
}

static void on_frame_start(wslay_event_context_ptr c, const struct wslay_event_on_frame_recv_start_arg *a, void *ctx) {
	struct websocket *w = ctx;
	w->control = wslay_is_ctrl_frame(a->opcode);
	w->last = a->fin;
	if (!w->control && a->opcode != WSLAY_CONTINUATION_FRAME && !w->stopped)
		w->events->begins(w->ctx, a->opcode == WSLAY_TEXT_FRAME);
}

static void on_frame_chunk(wslay_event_context_ptr c, const struct wslay_event_on_frame_recv_chunk_arg *a, void *ctx) {
	struct websocket *w = ctx;
	if (!w->control && !w->stopped && a->data_length > 0)
		w->events->piece(w->ctx, a->data, a->data_length);
}

static void on_frame_end(wslay_event_context_ptr c, void *ctx) {
	struct websocket *w = ctx;
	if (!w->control && w->last && !w->stopped)
		w->events->ends(w->ctx);
}

static void on_message(wslay_event_context_ptr c, const struct wslay_event_on_msg_recv_arg *a, void *ctx) {
	struct websocket *w = ctx;
	if (a->opcode == WSLAY_CONNECTION_CLOSE && !w->stopped)
		w->events->closed(w->ctx);
}

/* --- bytes --- */

/* What the library answers by itself. */
static int flush(struct websocket *w) {
	int r = wslay_event_want_write(w->wslay) ? wslay_event_send(w->wslay) : 0;
	return r == WSLAY_ERR_NOMEM ? -ENOMEM : r < 0 ? -EPROTO : 0;
}

static size_t head_size(const uint8_t *head) {
	unsigned n = head[1] & 127;
	return 2 + (n == 126 ? 2 : n == 127 ? 8 : 0) + 4;
}

static uint64_t payload_size(const uint8_t *head) {
	unsigned n = head[1] & 127, bytes = n == 126 ? 2 : n == 127 ? 8 : 0;
	uint64_t size = bytes ? 0 : n;
	for (unsigned i = 0; i < bytes; i++)
		size = size << 8 | head[2 + i];
	return size;
}

/* Whether a client masks its frames, as it must; the library takes any. */
static bool masked(struct websocket *w, const uint8_t *data, size_t size) {
	while (size > 0) {
		size_t n = (size_t)MIN((uint64_t)size, w->left);
		w->left -= n;
		data += n;
		size -= n;
		if (w->left > 0 || size == 0)
			continue;
		w->head[w->have++] = *data++;
		size--;
		if (w->have == 2 && !(w->head[1] & 0x80))
			return false;
		if (w->have < 2 || w->have < head_size(w->head))
			continue;
		w->left = payload_size(w->head);
		w->have = 0;
	}
	return true;
}

int websocket_feed(struct websocket *w, const uint8_t *data, size_t size) {
	int r = masked(w, data, size) ? 0 : -EPROTO;
	w->data = data;
	w->size = size;
	while (r == 0 && w->size > 0 && !w->stopped && wslay_event_want_read(w->wslay)) {
		r = wslay_event_recv(w->wslay);
		r = r == WSLAY_ERR_NOMEM ? -ENOMEM : r < 0 ? -EPROTO : flush(w);
	}
	/* It reads no more when it has seen a violation, or the goodbye. */
	if (r == 0 && !w->stopped && !wslay_event_want_read(w->wslay) && !wslay_event_get_close_received(w->wslay))
		r = -EPROTO;
	return r;
}

int websocket_send(struct websocket *w, bool text, const void *data, size_t size) {
	struct wslay_event_msg m = {
		.opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
		.msg = data,
		.msg_length = size,
	};
	if (w->closed)
		return 0;
	int r = wslay_event_queue_msg(w->wslay, &m);
	return r == WSLAY_ERR_NO_MORE_MSG ? 0 : r < 0 ? -ENOMEM : flush(w);
}

void websocket_close(struct websocket *w) {
	/* Fails when a goodbye waits already, in answer to the client's. */
	if (!w->closed && wslay_event_queue_close(w->wslay, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0) == WSLAY_ERR_NOMEM)
		w->stopped = true;
	if (!w->closed && flush(w) < 0)
		w->stopped = true;
	w->closed = true;
}

void websocket_stop(struct websocket *w) {
	w->stopped = true;
}

/* --- life --- */

int websocket_new(const struct websocket_events *events, void *ctx, struct websocket **ret_websocket) {
	static const struct wslay_event_callbacks callbacks = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.on_frame_recv_start_callback = on_frame_start,
		.on_frame_recv_chunk_callback = on_frame_chunk,
		.on_frame_recv_end_callback = on_frame_end,
		.on_msg_recv_callback = on_message,
	};
	struct websocket *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->events = events;
	w->ctx = ctx;
	if (wslay_event_context_server_init(&w->wslay, &callbacks, w) < 0) {
		free(w);
		return -ENOMEM;
	}
	wslay_event_config_set_no_buffering(w->wslay, 1);
	*ret_websocket = w;
	return 0;
}

void websocket_free(struct websocket *w) {
	if (!w)
		return;
	wslay_event_context_free(w->wslay);
	free(w);
}
