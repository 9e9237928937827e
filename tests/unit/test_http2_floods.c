/*
 * What a hostile or careless client sends to an HTTP/2 session, as raw frames:
 * floods end the session after a bounded number of frames and bytes; pings are
 * answered; limits hold; one stalled stream doesn't stall its connection; 16 MiB
 * pass in both directions.
 */
#include "workers/api/http2.h"

#include "base/clock.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

/* --- a session whose user counts --- */

struct peer {
	struct http2_session *session;
	struct budget budget;
	struct http2_stream *last;
	bool by_hand;
	size_t opened, closed, received, ended, rooms;
};

static void *on_open(void *owner, struct http2_stream *s, const struct head *head) {
	struct peer *p = owner;
	p->opened++;
	p->last = s;
	if (p->by_hand)
		http2_windows_by_hand(s);
	return p;
}

static void on_data(void *call, const uint8_t *data, size_t size) {
	((struct peer *)call)->received += size;
}

static void on_end(void *call) {
	((struct peer *)call)->ended++;
}

static size_t on_trailers(void *call, struct http2_field ret_fields[HTTP2_FIELDS_MAX]) {
	ret_fields[0] = (struct http2_field){ "grpc-status", "0" };
	return 1;
}

static void on_room(void *call) {
	((struct peer *)call)->rooms++;
}

static void on_closed(void *call) {
	((struct peer *)call)->closed++;
}

static const struct http2_events events = {
	.open = on_open,
	.data = on_data,
	.end = on_end,
	.trailers = on_trailers,
	.room = on_room,
	.closed = on_closed,
};

static void wants_output(void *ctx) {
}

static int feed(struct peer *p, const void *data, size_t size) {
	return http2_input(p->session, data, size);
}

static int frame(struct peer *p, int type, int flags, uint32_t id, const void *payload, size_t size) {
	uint8_t head[9] = { (uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size,
			    (uint8_t)type,	   (uint8_t)flags,	 (uint8_t)(id >> 24),
			    (uint8_t)(id >> 16),   (uint8_t)(id >> 8),	 (uint8_t)id };
	int r = feed(p, head, sizeof(head));
	return r == 0 && size > 0 ? feed(p, payload, size) : r;
}

static void begin(struct peer *p) {
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	*p = (struct peer){ .budget.limit = 256u << 20 };
	struct http2_options options = {
		.events = &events, .owner = p, .wants_output = wants_output, .ctx = p, .budget = &p->budget
	};
	if (http2_session_new(&options, &p->session) < 0 || feed(p, preface, sizeof(preface) - 1) < 0 ||
	    frame(p, SETTINGS, 0, 0, NULL, 0) < 0 || frame(p, SETTINGS, ACK, 0, NULL, 0) < 0)
		abort();
}

static void end(struct peer *p) {
	http2_session_free(p->session);
	tap_check(p->opened == p->closed, "every stream that was opened is closed");
	tap_check(p->budget.used == 0, "and nothing is held");
}

/* :method POST, :scheme http, :path /x/y, content-type application/grpc */
static const uint8_t request[] = "\x83\x86\x04\x04/x/y\x0f\x10\x10"
				 "application/grpc";
#define REQUEST_SIZE (sizeof(request) - 1)

static int open_stream(struct peer *p, uint32_t id, bool whole) {
	return frame(p, HEADERS, END_HEADERS | (whole ? END_STREAM : 0), id, request, REQUEST_SIZE);
}

/* All output so far, and how many frames of a type are in it; their payloads'
 * bytes in *ret_bytes, the last frame's first bytes in ret_last. */
static size_t output(struct peer *p, int type, uint32_t id, size_t *ret_bytes, uint8_t ret_last[16]) {
	struct buffer b CLEANUP_BUFFER = { 0 };
	size_t n = 0, bytes = 0;
	if (http2_output(p->session, &b, 64u << 20) < 0)
		b.size = 0;
	for (size_t at = 0; at + 9 <= b.size;) {
		const uint8_t *h = b.data + at;
		size_t size = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
		uint32_t stream = (uint32_t)(h[5] & 0x7f) << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8];
		if (h[3] == type && (id == UINT32_MAX || id == stream)) {
			n++;
			bytes += size;
			if (ret_last)
				memcpy(ret_last, h + 9, size < 16 ? size : 16);
		}
		at += 9 + size;
	}
	if (ret_bytes)
		*ret_bytes = bytes;
	return n;
}

#define ANY UINT32_MAX

/* --- floods --- */

static void test_reset_flood(void) {
	static const uint8_t cancel[4] = { 0, 0, 0, 8 };
	struct peer p;
	uint8_t last[16] = { 0 };
	begin(&p);
	int r = 0;
	uint32_t n = 0;
	size_t farewells = 0;
	for (; r == 0 && n < 100000 && !http2_over(p.session); n++) {
		r = open_stream(&p, 1 + 2 * n, true);
		if (r == 0)
			r = frame(&p, RST_STREAM, 0, 1 + 2 * n, cancel, sizeof(cancel));
		if (n % 64 == 0)
			farewells += output(&p, GOAWAY, 0, NULL, last);
	}
	tap_check(n < 2000 && p.opened < 2000, "CVE-2023-44487: a flood of resets ends the session");
	tap_check(farewells == 1 && last[7] != 0, "which says so");
	end(&p);
}

static void test_continuation_flood(void) {
	static const uint8_t field[] = "\x00\x01"
				       "a\x10"
				       "0123456789abcdef";
	struct peer p;
	uint8_t block[sizeof(field) - 1];
	memcpy(block, field, sizeof(block));
	begin(&p);
	int r = frame(&p, HEADERS, 0, 1, request, REQUEST_SIZE);
	int n = 0;
	for (; r == 0 && n < 1000000; n++)
		r = frame(&p, CONTINUATION, 0, 1, block, sizeof(block));
	tap_check(n < 10000, "CVE-2024-28182: a flood of CONTINUATION ends the session");
	tap_check(p.opened <= 1, "and is no request");
	end(&p);

	begin(&p);
	r = frame(&p, HEADERS, 0, 1, request, REQUEST_SIZE);
	for (n = 0; r == 0 && n < 1000000; n++)
		r = frame(&p, CONTINUATION, 0, 1, NULL, 0);
	tap_check(n < 10000, "one of empty frames too");
	end(&p);
}

/* Each asks for an answer that the client doesn't read. */
static void test_answer_floods(void) {
	struct peer p;
	int n = 0, r = 0;
	begin(&p);
	for (; r == 0 && n < 1000000; n++)
		r = frame(&p, PING, 0, 0, "12345678", 8);
	tap_check(n < 20000, "a flood of pings whose answers nobody takes ends the session");
	end(&p);
	begin(&p);
	for (n = r = 0; r == 0 && n < 1000000; n++)
		r = frame(&p, SETTINGS, 0, 0, NULL, 0);
	tap_check(n < 20000, "one of settings too");
	end(&p);
}

static void test_frames_out_of_place(void) {
	static uint8_t large[20000];
	static const uint8_t window[4] = { 0, 0, 0, 0 };
	struct peer p;
	begin(&p);
	tap_check(frame(&p, DATA, 0, 0, "x", 1) < 0 || output(&p, GOAWAY, 0, NULL, NULL) == 1, "DATA of no stream");
	end(&p);
	begin(&p);
	tap_check(frame(&p, DATA, 0, 1, large, sizeof(large)) < 0 || output(&p, GOAWAY, 0, NULL, NULL) == 1,
		  "a frame larger than allowed");
	end(&p);
	begin(&p);
	open_stream(&p, 1, false);
	tap_check(frame(&p, WINDOW_UPDATE, 0, 1, window, 4) < 0 || output(&p, RST_STREAM, 1, NULL, NULL) == 1 ||
		      http2_over(p.session),
		  "a window of nothing");
	end(&p);
}

/* --- what works --- */

static void test_ping(void) {
	struct peer p;
	uint8_t last[16] = { 0 };
	begin(&p);
	output(&p, PING, 0, NULL, NULL);
	int r = frame(&p, PING, 0, 0, "keep-me!", 8);
	tap_check(r == 0 && output(&p, PING, 0, NULL, last) == 1 && memcmp(last, "keep-me!", 8) == 0,
		  "a ping is answered with its own bytes");
	for (int i = 0; r == 0 && i < 5000; i++) {
		r = frame(&p, PING, 0, 0, "12345678", 8);
		if (i % 100 == 0)
			output(&p, PING, 0, NULL, NULL);
	}
	tap_check(r == 0, "a client that takes the answers may ping for ever");
	end(&p);
}

static void test_ping_waits(void) {
	static const struct http2_field ok[] = { { ":status", "200" } };
	struct peer p;
	size_t bytes;
	begin(&p);
	output(&p, PING, 0, NULL, NULL);
	tap_check(!http2_can_wait(p.session), "there is nothing to wait with");
	int r = frame(&p, PING, 0, 0, "12345678", 8);
	tap_check(r == 0 && http2_can_wait(p.session), "a ping's answer can wait");
	r = open_stream(&p, 1, true);
	tap_check(r == 0 && http2_can_wait(p.session), "beside a request too, until there is a reply");
	r = http2_respond(p.last, ok, 1, true);
	tap_check(r == 0 && !http2_can_wait(p.session), "which doesn't wait");
	tap_check(output(&p, PING, 0, NULL, NULL) == 1 && p.closed == 1, "and takes the answer along");
	for (int i = 0; r == 0 && i < 11; i++)
		r = frame(&p, PING, 0, 0, "12345678", 8);
	tap_check(r == 0 && !http2_can_wait(p.session), "many answers don't wait");
	tap_check(output(&p, PING, 0, &bytes, NULL) == 11 && bytes == 88, "none is forgotten");
	r = frame(&p, PING, 0, 0, "12345678", 8);
	frame(&p, SETTINGS, 0, 0, NULL, 0);
	tap_check(r == 0 && !http2_can_wait(p.session), "what else there is to say doesn't wait either");
	end(&p);
}

static void test_streams_limit(void) {
	struct peer p;
	begin(&p);
	output(&p, SETTINGS, 0, NULL, NULL);
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < 400; i++)
		r = open_stream(&p, 1 + 2 * i, false);
	tap_check(p.opened == 256, "256 streams at a time, and no more");
	end(&p);
}

/* One whose reader is slow keeps its own window shut, and nobody else's. */
static void test_windows_by_hand(void) {
	static uint8_t data[16384];
	struct peer p;
	begin(&p);
	p.by_hand = true;
	open_stream(&p, 1, false);
	struct http2_stream *slow = p.last;
	p.by_hand = false;
	open_stream(&p, 3, false);
	output(&p, SETTINGS, 0, NULL, NULL);
	int r = 0;
	for (int i = 0; r == 0 && i < 60; i++)
		r = frame(&p, DATA, 0, 1, data, sizeof(data));
	tap_check(r == 0 && output(&p, WINDOW_UPDATE, 1, NULL, NULL) == 0, "a slow reader's window stays shut");
	for (int i = 0; r == 0 && i < 400; i++) {
		r = frame(&p, DATA, 0, 3, data, sizeof(data));
		if (i % 16 == 0)
			output(&p, WINDOW_UPDATE, 3, NULL, NULL);
	}
	tap_check(r == 0 && p.received == 460 * sizeof(data), "while another stream of the connection goes on");
	http2_consumed(slow, 60 * sizeof(data));
	tap_check(output(&p, WINDOW_UPDATE, 1, NULL, NULL) == 1, "and opens when it has read");
	for (int i = 0; r == 0 && i < 80; i++)
		r = frame(&p, DATA, 0, 1, data, sizeof(data));
	tap_check(r < 0 || output(&p, RST_STREAM, 1, NULL, NULL) == 1 || http2_over(p.session),
		  "who sends more than the window is ended");
	end(&p);
}

static void test_large(void) {
	static uint8_t data[16384];
	static const uint8_t wide[4] = { 0x3f, 0, 0, 0 };
	static const struct http2_field ok[] = { { ":status", "200" } };
	struct peer p;
	struct buffer body = { 0 };
	size_t bytes = 0, sent = 0;
	begin(&p);
	open_stream(&p, 1, false);
	int r = 0;
	for (int i = 0; r == 0 && i < 1024; i++) {
		r = frame(&p, DATA, i == 1023 ? END_STREAM : 0, 1, data, sizeof(data));
		if (i % 16 == 0)
			output(&p, WINDOW_UPDATE, 1, NULL, NULL);
	}
	tap_check(r == 0 && p.received == 16u << 20 && p.ended == 1, "a request of 16 MiB");
	memset(buffer_reserve(&body, 16u << 20), 7, 16u << 20);
	body.size = 16u << 20;
	r = http2_respond(p.last, ok, 1, false);
	if (r == 0)
		r = http2_send(p.last, &body);
	output(&p, DATA, 1, &sent, NULL);
	tap_check(r == 0 && sent <= 65535, "a reply is held to the client's window");
	tap_check(http2_unsent(p.last) == (16u << 20) - sent && p.rooms == 0, "and waits");
	frame(&p, WINDOW_UPDATE, 0, 0, wide, 4);
	frame(&p, WINDOW_UPDATE, 0, 1, wide, 4);
	output(&p, DATA, 1, &bytes, NULL);
	tap_check(sent + bytes == 16u << 20 && p.rooms == 1 && http2_unsent(p.last) == 0, "a reply of 16 MiB");
	http2_finish(p.last);
	tap_check(output(&p, HEADERS, 1, NULL, NULL) == 1 && p.closed == 1, "and its trailers");
	end(&p);
}

static void test_goaway(void) {
	struct peer p;
	uint8_t last[16] = { 0 };
	begin(&p);
	open_stream(&p, 1, false);
	http2_goaway(p.session);
	tap_check(output(&p, GOAWAY, 0, NULL, last) == 1 && last[3] == 1 && last[7] == 0,
		  "GOAWAY names the last request, without an error");
	open_stream(&p, 3, true);
	tap_check(p.opened == 1, "a request after it isn't taken");
	int r = frame(&p, DATA, END_STREAM, 1, "x", 1);
	tap_check(r == 0 && p.ended == 1, "the open one goes on");
	end(&p);
}

int main(void) {
	test_reset_flood();
	test_continuation_flood();
	test_answer_floods();
	test_frames_out_of_place();
	test_ping();
	test_ping_waits();
	test_streams_limit();
	test_windows_by_hand();
	test_large();
	test_goaway();
	return tap_done();
}
