/* The pure parts of the gRPC front: header fields, their grammars, framing. */
#include "tests/unit/tap.h"
#include "workers/api/fields.h"
#include "workers/api/frame.h"
#include "workers/api/head.h"

#include <errno.h>
#include <string.h>

/* --- fields --- */

static void test_timeout(void) {
	static const struct {
		const char *text;
		int64_t ns; /* -1: refused */
	} rows[] = {
		{ "1n", 1 },
		{ "3S", INT64_C(3000000000) },
		{ "250m", 250000000 },
		{ "7u", 7000 },
		{ "2M", INT64_C(120000000000) },
		{ "1H", INT64_C(3600000000000) },
		{ "0n", 0 },
		{ "00000001S", INT64_C(1000000000) },
		{ "99999999H", FIELD_TIMEOUT_MAX },
		{ "99999999S", INT64_C(99999999000000000) },
		{ "999999999S", -1 },
		{ "", -1 },
		{ "S", -1 },
		{ "1", -1 },
		{ "1s", -1 },
		{ "-1S", -1 },
		{ "+1S", -1 },
		{ " 1S", -1 },
		{ "1S ", -1 },
		{ "1.5S", -1 },
		{ "1SS", -1 },
		{ "0x1S", -1 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int64_t ns = -1;
		int r = field_timeout(rows[i].text, &ns);
		tap_check(r == (rows[i].ns < 0 ? -EINVAL : 0) && ns == rows[i].ns, "grpc-timeout \"%s\"", rows[i].text);
	}
}

static void test_traceparent(void) {
	static const struct {
		const char *text;
		bool valid;
	} rows[] = {
		{ "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true },
		{ "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false },
		{ "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", true },
		{ "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false },
		{ "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false },
		{ "00-00000000000000000000000000000000-b7ad6b7169203331-01", false },
		{ "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false },
		{ "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false },
		{ "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false },
		{ "", false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t trace[2] = { 0, 0 };
		bool ok = field_traceparent(rows[i].text, trace);
		bool right = rows[i].valid ? trace[0] == 0x0af7651916cd43dd && trace[1] == 0x8448eb211c80319c
					   : trace[0] == 0 && trace[1] == 0;
		tap_check(ok == rows[i].valid && right, "traceparent \"%s\"", rows[i].text);
	}
}

static void test_content_type(void) {
	tap_check(field_is_grpc("application/grpc"), "application/grpc");
	tap_check(field_is_grpc("application/grpc+proto"), "application/grpc+proto");
	tap_check(field_is_grpc("application/grpc;charset=x"), "application/grpc with a parameter");
	tap_check(!field_is_grpc("application/grpc+json"), "application/grpc+json is refused");
	tap_check(!field_is_grpc("application/grpc-web"), "application/grpc-web is refused");
	tap_check(!field_is_grpc("application/json"), "application/json is refused");
	tap_check(!field_is_grpc(NULL), "no content type is refused");
}

static void test_message(void) {
	char out[64];
	field_encode_message("a b~", out);
	tap_check(strcmp(out, "a b~") == 0, "printable ASCII stays");
	field_encode_message("50%\n\xc3\xa4\x7f", out);
	tap_check(strcmp(out, "50%25%0A%C3%A4%7F") == 0, "percent, control characters and UTF-8 are encoded");
}

/* --- heads --- */

static void add(struct head *h, const char *name, const char *value) {
	head_add(h, (const uint8_t *)name, strlen(name), (const uint8_t *)value, strlen(value));
}

static void add_request(struct head *h) {
	head_reset(h);
	add(h, ":method", "POST");
	add(h, ":scheme", "http");
	add(h, ":path", "/a.B/C");
}

static void test_head_authority(void) {
	static const char *const seen[] = { "localhost", "", "/run/x.sock", "unix:///run/x.sock",
					    "passthrough:///a b" };
	struct head h = { 0 };
	add_request(&h);
	tap_check(head_finish(&h) == HEAD_OK, "a request without :authority is one");
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
		add_request(&h);
		add(&h, ":authority", seen[i]);
		add(&h, "content-type", "application/grpc");
		tap_check(head_finish(&h) == HEAD_OK && strcmp(head_get(&h, ":authority"), seen[i]) == 0 &&
			      strcmp(head_get(&h, ":path"), "/a.B/C") == 0,
			  ":authority \"%s\"", seen[i]);
	}
	tap_check(head_get(&h, "te") == NULL, "an absent field is NULL");
	head_deinit(&h);
}

static void test_head_malformed(void) {
	static const struct {
		const char *name, *value, *why;
	} rows[] = {
		{ ":path", "/x", "a pseudo field twice" },
		{ ":status", "200", "a response's pseudo field" },
		{ ":protocol", "websocket", "an unknown pseudo field" },
		{ "Upper", "x", "upper case in a name" },
		{ "a b", "x", "a space in a name" },
		{ "", "x", "an empty name" },
		{ "x", "a\nb", "a line break in a value" },
		{ "x", "a\x01", "a control character in a value" },
	};
	struct head h = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		add_request(&h);
		add(&h, rows[i].name, rows[i].value);
		tap_check(head_finish(&h) == HEAD_MALFORMED, "malformed: %s", rows[i].why);
	}
	add_request(&h);
	head_add(&h, (const uint8_t *)"x", 1, (const uint8_t *)"a\0b", 3);
	tap_check(head_finish(&h) == HEAD_MALFORMED, "malformed: NUL in a value");
	add_request(&h);
	add(&h, "te", "trailers");
	add(&h, ":authority", "x");
	tap_check(head_finish(&h) == HEAD_MALFORMED, "malformed: a pseudo field after a regular one");
	head_reset(&h);
	add(&h, ":method", "POST");
	add(&h, ":scheme", "http");
	tap_check(head_finish(&h) == HEAD_MALFORMED, "malformed: no :path");
	head_deinit(&h);
}

static void test_head_limits(void) {
	static char value[HEAD_SIZE_MAX];
	struct head h = { 0 };
	memset(value, 'v', sizeof(value) - 1);
	add_request(&h);
	size_t left = HEAD_SIZE_MAX - h.cost - 1 - HEAD_FIELD_COST;
	head_add(&h, (const uint8_t *)"x", 1, (const uint8_t *)value, left);
	tap_check(head_finish(&h) == HEAD_OK && h.cost == HEAD_SIZE_MAX, "a list of exactly the limit fits");
	add_request(&h);
	head_add(&h, (const uint8_t *)"x", 1, (const uint8_t *)value, left + 1);
	tap_check(head_finish(&h) == HEAD_TOO_LARGE, "one byte more doesn't");
	add_request(&h);
	for (int i = 0; i < HEAD_FIELDS_MAX; i++)
		add(&h, "x", "");
	tap_check(head_finish(&h) == HEAD_TOO_LARGE, "too many fields");
	tap_check(h.bytes.size < HEAD_SIZE_MAX, "nothing is kept beyond the limit");
	head_deinit(&h);
}

/* --- frames --- */

static const uint8_t message[] = { 0, 0, 0, 0, 7, 'r', 'e', 'q', 'u', 'e', 's', 't' };

static void test_frame_splits(void) {
	struct fault fault;
	bool ok = true;
	for (size_t a = 0; a <= sizeof(message); a++)
		for (size_t b = a; b <= sizeof(message); b++) {
			struct frame f = { .limit = 7 };
			ok &= frame_feed(&f, message, a, &fault) == 0;
			ok &= (frame_finish(&f, &fault) == 0) == (a == sizeof(message));
			ok &= frame_feed(&f, message + a, b - a, &fault) == 0;
			ok &= frame_feed(&f, message + b, sizeof(message) - b, &fault) == 0;
			ok &= frame_finish(&f, &fault) == 0 && f.body.size == 7 &&
			      memcmp(f.body.data, "request", 7) == 0;
			frame_deinit(&f);
		}
	tap_check(ok, "a message cut at any two places is the same message");
}

static void test_frame_refused(void) {
	struct fault fault;
	struct frame f = { .limit = 6 };
	tap_check(frame_feed(&f, message, 5, &fault) < 0 && fault.code == FAULT_RESOURCE_EXHAUSTED &&
		      strstr(fault.text, "7 bytes") && strstr(fault.text, "limit is 6") && f.body.size == 0,
		  "a length beyond the limit is refused with both numbers, before any byte is kept");
	frame_deinit(&f);
	f = (struct frame){ .limit = 16 };
	tap_check(frame_feed(&f, (const uint8_t *)"\1\0\0\0\1", 5, &fault) < 0 && fault.code == FAULT_UNIMPLEMENTED,
		  "a compressed message is refused");
	frame_deinit(&f);
	f = (struct frame){ .limit = 16 };
	tap_check(frame_feed(&f, (const uint8_t *)"\2\0\0\0\1", 5, &fault) < 0 && fault.code == FAULT_INVALID_ARGUMENT,
		  "unknown flags are refused");
	frame_deinit(&f);
	f = (struct frame){ .limit = 16 };
	tap_check(frame_feed(&f, message, sizeof(message), &fault) == 0 && frame_feed(&f, message, 1, &fault) < 0 &&
		      fault.code == FAULT_UNIMPLEMENTED,
		  "a second message is refused");
	frame_deinit(&f);
	f = (struct frame){ .limit = 16 };
	tap_check(frame_finish(&f, &fault) < 0 && fault.code == FAULT_UNIMPLEMENTED, "no message is refused");
	tap_check(frame_feed(&f, (const uint8_t *)"\0\0\0\0\0", 5, &fault) == 0 && frame_finish(&f, &fault) == 0,
		  "an empty message is one");
	frame_deinit(&f);
	f = (struct frame){ .limit = SIZE_MAX };
	tap_check(frame_feed(&f, (const uint8_t *)"\0\xff\xff\xff\xff", 5, &fault) == 0 && f.body.room <= 65536,
		  "a length alone makes nobody allocate it");
	frame_deinit(&f);
	uint8_t prefix[FRAME_PREFIX];
	frame_prefix(prefix, 0x01020304);
	tap_check(memcmp(prefix, "\0\1\2\3\4", 5) == 0, "the prefix of a reply");
}

int main(void) {
	test_timeout();
	test_traceparent();
	test_content_type();
	test_message();
	test_head_authority();
	test_head_malformed();
	test_head_limits();
	test_frame_splits();
	test_frame_refused();
	return tap_done();
}
