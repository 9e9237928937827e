/*
 * Whatever bytes a client sends: sessions, calls and framing must neither
 * crash nor leak nor hold more than their budget. The input is one connection;
 * its first byte says in pieces of how many bytes it arrives. A link without a
 * peer stands for the metadata worker, so calls stay open until the end.
 *
 * Invariants beyond the sanitisers': a session that is freed gives its whole
 * budget back, and output is bounded by its limit and one frame.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/api/services.h"

#include "base/log.h"

#include <stdlib.h>

#define OUTPUT_MAX 65536
#define BUDGET ((size_t)8 << 20)

static struct grpc_server grpc;

static void require(bool condition) {
	if (!condition)
		abort();
}

static void wants_output(void *ctx) {
}

static const struct boot_endpoint endpoint = { .name = "fuzz", .services = GROUPS_SERVED, .access = ACCESS_FULL };

static void start(void) {
	static const struct loop_options none = { 0 };
	struct loop *loop;
	struct link *link;
	log_init("fuzz", LOG_ERROR + 1);
	require(loop_new(&none, &loop) == 0 && loop_enable(loop, NULL, 0) == 0);
	const struct link_options options = {
		.loop = loop, .self = ROLE_API, .peer = ROLE_METADATA, .access = ACCESS_FULL
	};
	require(link_new(&options, &link) == 0);
	grpc = (struct grpc_server){
		.loop = loop, .metadata = link, .endpoint = &endpoint, .services = services, .next_request = 1
	};
}

static bool take_output(struct http2_session *c) {
	struct buffer out CLEANUP_BUFFER = { 0 };
	int r = http2_output(c, &out, OUTPUT_MAX);
	require(out.size <= 2 * OUTPUT_MAX);
	return r == 0 && !http2_over(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct budget budget = { .limit = BUDGET };
	struct http2_session *c;
	if (!grpc.loop)
		start();
	const struct http2_options options = {
		.events = &grpc_events,
		.owner = &grpc,
		.wants_output = wants_output,
		.budget = &budget,
	};
	if (size == 0 || http2_session_new(&options, &c) < 0)
		return 0;
	size_t piece = data[0] ? data[0] : SIZE_MAX;
	bool going = true;
	for (size_t at = 1; going && at < size;) {
		size_t n = MIN(piece, size - at);
		going = http2_input(c, data + at, n) == 0 && take_output(c);
		at += n;
		require(budget.used <= budget.limit);
	}
	http2_session_free(c);
	require(budget.used == 0);
	loop_turn(grpc.loop, 0);
	return 0;
}

/* --- seeds: connections that go deep, for mutation --- */

static void frame(struct buffer *b, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t size) {
	const uint8_t head[9] = {
		(uint8_t)(size >> 16),	 (uint8_t)(size >> 8),	  (uint8_t)size,	  type,		  flags,
		(uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream
	};
	buffer_add(b, head, sizeof(head));
	buffer_add(b, payload, size);
}

/* A literal header field without indexing; names and values below 127 bytes. */
static void literal(struct buffer *b, const char *name, const char *value) {
	const uint8_t kind = 0, name_size = (uint8_t)strlen(name), value_size = (uint8_t)strlen(value);
	buffer_add(b, &kind, 1);
	buffer_add(b, &name_size, 1);
	buffer_add(b, name, name_size);
	buffer_add(b, &value_size, 1);
	buffer_add(b, value, value_size);
}

static void request(struct buffer *b, uint32_t stream, const char *path, const void *body, size_t size) {
	struct buffer fields CLEANUP_BUFFER = { 0 };
	literal(&fields, ":method", "POST");
	literal(&fields, ":scheme", "http");
	literal(&fields, ":path", path);
	literal(&fields, ":authority", "/run/x.sock");
	literal(&fields, "content-type", "application/grpc");
	literal(&fields, "grpc-timeout", "3S");
	literal(&fields, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	frame(b, 1, 4, stream, fields.data, fields.size);
	frame(b, 0, 1, stream, body, size);
}

size_t fuzz_seed(unsigned n, struct buffer *ret_seed) {
	static const char *const paths[] = {
		"/runtime.v1.RuntimeService/Version",
		"/runtime.v1.RuntimeService/ContainerStatus",
		"/runtime.v1alpha2.ImageService/PullImage",
		"/bulkhead.v1.Admin/Pull",
		"/grpc.health.v1.Health/Check",
		"/runtime.v1.RuntimeService/CheckpointPod",
	};
	static const uint8_t body[] = { 0, 0, 0, 0, 5, 10, 3, 'w', 'e', 'b' }, window[] = { 0, 0, 16, 0 };
	if (n >= ARRAY_SIZE(paths))
		return 0;
	buffer_add(ret_seed, "\0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 25);
	frame(ret_seed, 4, 0, 0, NULL, 0);
	for (uint32_t i = 0; i < 3; i++) {
		request(ret_seed, 1 + 2 * i, paths[(n + i) % ARRAY_SIZE(paths)], body, sizeof(body));
		frame(ret_seed, 8, 0, 0, window, sizeof(window));
	}
	frame(ret_seed, 3, 0, 1, "\0\0\0\x8", 4);
	frame(ret_seed, 6, 0, 0, "12345678", 8);
	return ret_seed->size;
}
