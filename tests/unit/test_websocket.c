/* What comes before a session and around its bytes: request heads, the choice
 * of a protocol, WebSocket frames, base64, the bits of JSON. */
#include "tap.h"
#include "workers/stream/base64.h"
#include "workers/stream/json.h"
#include "workers/stream/sha1.h"
#include "workers/stream/upgrade.h"

#include <errno.h>
#include <string.h>

/* --- heads --- */

static int parse(const char *text, struct http_request *r, char *room) {
	strcpy(room, text);
	ssize_t n = http_head_size(room, strlen(room));
	return n > 0 ? http_parse(room, (size_t)n, r) : -EAGAIN;
}

static void test_heads(void) {
	static const struct {
		const char *text;
		int result;
	} heads[] = {
		{ "GET /x HTTP/1.1\r\nA: b\r\n\r\n", 0 },
		{ "GET /x HTTP/1.1\r\nA: b\r\n", -EAGAIN },
		{ "GET /x HTTP/1.0\r\n\r\n", -EBADMSG },
		{ "GET x HTTP/1.1\r\n\r\n", -EBADMSG },
		{ "GET /x y HTTP/1.1\r\n\r\n", -EBADMSG },
		{ "G@T /x HTTP/1.1\r\n\r\n", -EBADMSG },
		{ "GET /x HTTP/1.1\r\nA : b\r\n\r\n", -EBADMSG },
		{ "GET /x HTTP/1.1\r\n: b\r\n\r\n", -EBADMSG },
		{ "GET /x HTTP/1.1\r\nA: b\r\n c\r\n\r\n", -EBADMSG },
		{ "GET /x HTTP/1.1\r\nA: \x01\r\n\r\n", -EBADMSG },
		{ "GET /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 0 },
		{ "GET /x HTTP/1.1\r\nContent-Length: 1\r\n\r\n", -EOPNOTSUPP },
		{ "GET /x HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", -EOPNOTSUPP },
		{ "GET /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", -EOPNOTSUPP },
		{ "\r\n\r\n", -EBADMSG },
	};
	char room[512];
	struct http_request r;
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++)
		tap_check(parse(heads[i].text, &r, room) == heads[i].result, "head %zu gives %d", i, heads[i].result);
	static char longest[HTTP_HEAD_MAX + 1];
	memset(longest, 'x', sizeof(longest));
	tap_check(http_head_size(longest, sizeof(longest)) == -EMSGSIZE, "a head without an end");
	parse("GET / HTTP/1.1\r\nP: a, b\r\np:c ,\tD\r\nQ: 1\r\nQ: 2\r\n\r\n", &r, room);
	tap_check(http_header_has(&r, "P", "A") && http_header_has(&r, "P", "d") && !http_header_has(&r, "P", "a, b"),
		  "words of lists");
	tap_check(!http_header(&r, "Q") && !http_header(&r, "R"), "a header that must be there once");
}

/* --- protocols --- */

#define SPDY_HEAD "POST / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\n"
#define WS_HEAD                                                                                        \
	"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" \
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define P "X-Stream-Protocol-Version: "
#define W "Sec-WebSocket-Protocol: "

static void test_protocols(void) {
	static const struct {
		const char *head;
		enum upgrade_kind kind;
		int status;
		const char *protocol;
		unsigned version;
	} cases[] = {
		{ SPDY_HEAD P "v4.channel.k8s.io\r\n", UPGRADE_REMOTE, 0, "v4.channel.k8s.io", 4 },
		{ SPDY_HEAD P "v9\r\n" P "v3.channel.k8s.io\r\n" P "v4.channel.k8s.io\r\n", UPGRADE_REMOTE, 0,
		  "v3.channel.k8s.io", 3 },
		{ SPDY_HEAD P "v5.channel.k8s.io\r\n", UPGRADE_REMOTE, 403, NULL, 0 },
		{ SPDY_HEAD, UPGRADE_REMOTE, 0, NULL, 1 },
		{ SPDY_HEAD P "portforward.k8s.io\r\n", UPGRADE_FORWARD, 0, "portforward.k8s.io", 0 },
		{ SPDY_HEAD P "portforward.k8s.io\r\n", UPGRADE_REMOTE, 403, NULL, 0 },
		{ WS_HEAD W "v5.channel.k8s.io, v4.channel.k8s.io\r\n", UPGRADE_REMOTE, 0, "v5.channel.k8s.io", 5 },
		{ WS_HEAD W "base64.channel.k8s.io\r\n", UPGRADE_REMOTE, 0, "base64.channel.k8s.io", 1 },
		{ WS_HEAD W "SPDY/3.1+portforward.k8s.io\r\n", UPGRADE_FORWARD, 0, "SPDY/3.1+portforward.k8s.io", 0 },
		{ WS_HEAD, UPGRADE_FORWARD, 0, NULL, 4 },
		{ "GET / HTTP/1.1\r\nUpgrade: websocket\r\n", UPGRADE_REMOTE, 400, NULL, 0 },
		{ "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n", UPGRADE_REMOTE, 400, NULL, 0 },
		{ "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
		  "Sec-WebSocket-Key: short\r\n",
		  UPGRADE_REMOTE, 400, NULL, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char head[512], room[512];
		struct http_request r;
		struct upgrade u;
		const char *why = NULL, *want = cases[i].protocol;
		snprintf(head, sizeof(head), "%s\r\n", cases[i].head);
		int status = parse(head, &r, room) == 0 ? upgrade_choose(&r, cases[i].kind, &u, &why) : -1;
		bool same = status != 0 || (want ? u.protocol && strcmp(u.protocol, want) == 0 : !u.protocol);
		tap_check(status == cases[i].status && same && (status != 0 || u.version == cases[i].version),
			  "offer %zu: %d %s", i, cases[i].status, want ? want : "");
	}
	char accept[WEBSOCKET_ACCEPT_SIZE];
	tap_check(websocket_accept("dGhlIHNhbXBsZSBub25jZQ==", accept) == 0 &&
		      strcmp(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") == 0,
		  "the key of RFC 6455, 1.3");
}

/* --- frames --- */

struct seen {
	struct websocket *websocket;
	char text[128];
	size_t out;
};

static void add(struct seen *s, const char *text, size_t size) {
	size_t n = strlen(s->text);
	snprintf(s->text + n, sizeof(s->text) - n, "%.*s", (int)size, text);
}
static void begins(void *ctx, bool text) {
	add(ctx, text ? "<t" : "<b", 2);
}
static void piece(void *ctx, const uint8_t *data, size_t size) {
	add(ctx, (const char *)data, size);
}
static void ends(void *ctx) {
	add(ctx, ">", 1);
}
static void closed(void *ctx) {
	add(ctx, "closed", 6);
}
static void output(void *ctx, const void *data, size_t size) {
	((struct seen *)ctx)->out += size;
}

static void frames(const char *bytes, size_t size, size_t step, int result, const char *want, const char *name) {
	static const struct websocket_events events = {
		.begins = begins, .piece = piece, .ends = ends, .closed = closed, .output = output
	};
	struct seen s = { 0 };
	int r = websocket_new(&events, &s, &s.websocket);
	for (size_t at = 0; r == 0 && at < size; at += step)
		r = websocket_feed(s.websocket, (const uint8_t *)bytes + at, MIN(step, size - at));
	tap_check(r == result && strcmp(s.text, want) == 0, "%s (%zu at a time): %d \"%s\"", name, step, r, s.text);
	websocket_free(s.websocket);
}

#define MASK "\0\0\0\0"
#define FRAMES(bytes, ...) frames(bytes, sizeof(bytes) - 1, __VA_ARGS__)

static void test_frames(void) {
	for (size_t step = 1; step < 64; step += 30) {
		FRAMES("\x82\x83" MASK "abc", step, 0, "<babc>", "one message");
		FRAMES("\x01\x82" MASK "ab\x89\x81" MASK "p\x80\x81" MASK "c", step, 0, "<tabc>",
		       "fragments around a ping");
		FRAMES("\x88\x82" MASK "\x03\xe8", step, 0, "closed", "goodbye");
		FRAMES("\x82\x03"
		       "abc",
		       step, -EPROTO, "", "no mask");
		FRAMES("\xc2\x81" MASK "a", step, -EPROTO, "", "a reserved bit");
		FRAMES("\x80\x81" MASK "a", step, -EPROTO, "", "a continuation of nothing");
		FRAMES("\x09\x80" MASK "\x82\x81" MASK "a", step, -EPROTO, "", "a ping in fragments");
	}
}

/* --- base64 and JSON --- */

static void test_base64(void) {
	static const char *const pairs[][2] = {
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }
	};
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		char text[16] = "";
		uint8_t data[16] = { 0 };
		struct base64 b = { 0 };
		base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
		ssize_t n = 0;
		for (const char *p = pairs[i][1]; *p && n >= 0; p++) {
			ssize_t m = base64_decode(&b, p, 1, data + n);
			n = m < 0 ? m : n + m;
		}
		tap_check(strcmp(text, pairs[i][1]) == 0 && n == (ssize_t)strlen(pairs[i][0]) &&
			      memcmp(data, pairs[i][0], (size_t)n) == 0,
			  "base64 of \"%s\", both ways", pairs[i][0]);
	}
	static const char *const bad[] = { "=", "a=", "a?aa", "aa=a" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct base64 b = { 0 };
		uint8_t data[16];
		tap_check(base64_decode(&b, bad[i], strlen(bad[i]), data) == -EBADMSG, "\"%s\" is none", bad[i]);
	}
}

static void test_json(void) {
	unsigned short w = 0, h = 0;
	static const char good[] = "{ \"Height\" : 24,\"Width\":80 }";
	tap_check(json_read_size(good, strlen(good), &w, &h) && w == 80 && h == 24, "a size");
	static const char *const bad[] = { "",
					   "{}",
					   "{\"Width\":1}",
					   "{\"Width\":70000,\"Height\":1}",
					   "{\"Width\":-1,\"Height\":1}",
					   "[\"Width\":1,\"Height\":1]" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tap_check(!json_read_size(bad[i], strlen(bad[i]), &w, &h), "no size: %s", bad[i]);
	CLEANUP_BUFFER struct buffer b = { 0 };
	json_add_failure(&b, "a \"quoted\"\nline\\");
	buffer_add(&b, "", 1);
	tap_check(strstr((char *)b.data, "\"a \\\"quoted\\\"\\u000aline\\\\\"") != NULL, "a sentence is quoted");
}

int main(void) {
	test_heads();
	test_protocols();
	test_frames();
	test_base64();
	test_json();
	return tap_done();
}
