/*
 * A client on a serial line finds its place: it asks for a service whose name
 * nobody else knows, on stream 1. That no such service is there is what any
 * server answers, and it names it; so the answer is found among whatever else
 * is still on the line. It may begin at any byte: what came is looked through
 * until a whole response is there that has the name.
 *
 * It asks again until it is answered, with pauses that grow: the guest may not
 * be up yet.
 *
 * Then it goes on to ask now and then, on streams of their own, as long as calls
 * wait: the answer to one of them tells that there is another server.
 */
#include "ttrpc/internal.h"

#include "base/clock.h"
#include "base/id.h"
#include "msg/msg.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <stdio.h>

#define ANSWER_MAX 1024 /* bytes */
#define PAUSE_FIRST (100 * NS_PER_MS)
#define PAUSE_MAX (2 * NS_PER_SEC)
#define WATCH_PAUSE (5 * NS_PER_SEC)

/* --- the question --- */

static int ask_later(struct ttrpc_client *c);

static void question(struct ttrpc_client *c, uint32_t stream) {
	Ttrpc__Request r = TTRPC__REQUEST__INIT;
	r.service = c->line.sign;
	r.method = (char *)"Find";
	ttrpc_client_request(c, stream, &r.base);
}

static void ask(struct ttrpc_client *c) {
	if (c->out.size == 0) /* else the last one hasn't left */
		question(c, 1);
}

static void ask_again(void *ctx) {
	struct ttrpc_client *c = ctx;
	ttrpc_client_enter(c);
	loop_source_free_p(&c->line.again);
	ask(c);
	c->line.pause = MIN(2 * c->line.pause, PAUSE_MAX);
	if (ask_later(c) < 0 || ttrpc_client_flush(c) < 0)
		ttrpc_client_end(c, "no memory for the serial line");
	ttrpc_client_leave(c);
}

static int ask_later(struct ttrpc_client *c) {
	return loop_timer(c->options.loop, clock_mono() + c->line.pause, ask_again, c, &c->line.again);
}

int ttrpc_line_begin(struct ttrpc_client *c) {
	char id[ID_SIZE];
	id_random(id);
	snprintf(c->line.sign, sizeof(c->line.sign), TTRPC_LINE_SERVICE "%.32s", id);
	c->line.lost = true;
	c->line.pause = PAUSE_FIRST;
	c->next = 3;
	ask(c);
	int r = ask_later(c);
	return r < 0 ? r : ttrpc_client_flush(c);
}

void ttrpc_line_deinit(struct ttrpc_line *l) {
	loop_source_free_p(&l->again);
	loop_source_free_p(&l->watch);
	buffer_deinit(&l->seen);
}

/* --- the answer --- */

static bool has_sign(const struct ttrpc_line *l, const uint8_t *data, size_t size) {
	struct arena arena;
	arena_init(&arena, msg_decoded_limit(size));
	const Ttrpc__Response *r =
	    (const Ttrpc__Response *)msg_decode(&ttrpc__response__descriptor, &arena, data, size);
	bool has = r && r->status && strstr(r->status->message, l->sign);
	arena_deinit(&arena);
	return has;
}

/* The size of the answer that begins here, 0 when none does, or not all is there. */
static size_t answer_at(const struct ttrpc_line *l, const uint8_t *data, size_t size) {
	if (size < TTRPC_HEADER)
		return 0;
	const struct ttrpc_frame f = ttrpc_frame_parse(data);
	if (f.type != TTRPC_RESPONSE || f.stream != 1 || f.size > MIN(ANSWER_MAX, size - TTRPC_HEADER))
		return 0;
	return has_sign(l, data + TTRPC_HEADER, f.size) ? TTRPC_HEADER + f.size : 0;
}

size_t ttrpc_line_input(struct ttrpc_client *c, const uint8_t *data, size_t size) {
	struct ttrpc_line *l = &c->line;
	buffer_add(&l->seen, data, size);
	if (l->seen.failed) {
		ttrpc_client_end(c, "no memory for the serial line");
		return size;
	}
	for (size_t i = 0; i < l->seen.size; i++) {
		size_t n = answer_at(l, l->seen.data + i, l->seen.size - i);
		if (n == 0)
			continue;
		size_t rest = l->seen.size - i - n;
		ttrpc_line_deinit(l);
		l->lost = false;
		return size - rest;
	}
	size_t most = TTRPC_HEADER + ANSWER_MAX - 1;
	if (l->seen.size > most)
		buffer_consume(&l->seen, l->seen.size - most);
	return size;
}

/* --- the server's end ------------------------------------------------------- */

static void watch_due(void *ctx) {
	struct ttrpc_client *c = ctx;
	ttrpc_client_enter(c);
	loop_source_free_p(&c->line.watch);
	if (!list_empty(&c->sent) && c->next < UINT32_MAX) {
		question(c, (uint32_t)c->next);
		c->next += 2;
	}
	if (ttrpc_client_flush(c) < 0 || ttrpc_line_watch(c) < 0)
		ttrpc_client_end(c, "no memory for the serial line");
	ttrpc_client_leave(c);
}

int ttrpc_line_watch(struct ttrpc_client *c) {
	return loop_timer(c->options.loop, clock_mono() + WATCH_PAUSE, watch_due, c, &c->line.watch);
}

bool ttrpc_line_anew(const struct ttrpc_client *c, const Google__Rpc__Status *status) {
	return c->options.line && status && status->code == FAULT_UNAVAILABLE &&
	       strstr(status->message, TTRPC_LINE_ANEW);
}

void ttrpc_line_lost(struct ttrpc_client *c, const Google__Rpc__Status *status) {
	struct fault fault;
	fault_set(&fault, FAULT_UNAVAILABLE, "%s", status->message);
	ttrpc_line_deinit(&c->line);
	if (ttrpc_line_begin(c) < 0)
		ttrpc_client_end(c, "no memory for the serial line");
	else
		ttrpc_calls_lose(c, &fault);
}
