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
#include "workers/api/http2.h"
#include "workers/api/services.h"

#include "base/log.h"

#define OUTPUT_MAX 65536
#define BUDGET ((size_t)8 << 20)

static struct grpc_server grpc;

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
	void *c;
	if (!grpc.loop)
		start();
	const struct protocol_options options = {
		.owner = &grpc,
		.wants_output = wants_output,
		.budget = &budget,
	};
	if (size == 0 || protocol_grpc.open(&options, &c) < 0)
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
