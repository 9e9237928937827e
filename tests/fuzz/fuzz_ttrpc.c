/*
 * Whatever bytes a ttrpc client sends. The input is one connection; its first
 * byte says in pieces of how many bytes it arrives, and how much of the output
 * is taken after each; an odd one makes it a serial line, with one client after
 * the other. A link without a peer stands for the metadata worker, so calls stay
 * open until the end.
 *
 * Invariants beyond the sanitisers': a session that is freed gives its whole
 * budget back; what it says is whole frames, all of them responses, after at
 * most one line.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/api/services.h"

#include "base/log.h"
#include "ttrpc/frame.h"

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

static void take_output(void *session, struct buffer *all, size_t max) {
	size_t before = all->size;
	require(protocol_ttrpc.output(session, all, before + max) == 0 && all->size <= before + max);
}

static void judge(const struct buffer *all) {
	size_t at = 0;
	if (all->size >= 3 && memcmp(all->data, "OK ", 3) == 0)
		at = (size_t)((const uint8_t *)memchr(all->data, '\n', all->size) - all->data) + 1;
	while (at < all->size) {
		require(all->size - at >= TTRPC_HEADER);
		const struct ttrpc_frame f = ttrpc_frame_parse(all->data + at);
		require(f.type == TTRPC_RESPONSE && f.flags == 0 && f.size <= TTRPC_DATA_MAX);
		at += TTRPC_HEADER;
		require(all->size - at >= f.size);
		at += f.size;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct buffer all CLEANUP_BUFFER = { 0 };
	struct budget budget = { .limit = BUDGET };
	void *session;
	if (!grpc.loop)
		start();
	const struct protocol_options options = {
		.owner = &grpc, .wants_output = wants_output, .budget = &budget, .line = size > 0 && data[0] % 2
	};
	if (size == 0 || protocol_ttrpc.open(&options, &session) < 0)
		return 0;
	size_t piece = data[0] ? data[0] : SIZE_MAX;
	bool going = true;
	for (size_t at = 1; going && at < size;) {
		size_t n = MIN(piece, size - at);
		going = protocol_ttrpc.input(session, data + at, n) == 0;
		if (going)
			take_output(session, &all, MIN(piece, 4096));
		at += n;
		require(budget.used <= budget.limit);
	}
	if (going) {
		take_output(session, &all, BUDGET);
		judge(&all);
	}
	protocol_ttrpc.close(session);
	require(budget.used == 0);
	loop_turn(grpc.loop, 0);
	return 0;
}
