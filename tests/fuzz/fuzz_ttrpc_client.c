/*
 * Whatever bytes a ttrpc server sends to our client. The input's first byte says
 * in pieces of how many bytes they arrive; the second how many calls there are,
 * which of them is given up, whether it is a line, and whether its server
 * answers the question by which a client finds its place there.
 *
 * Invariants beyond the sanitisers': each call is told once, or was given up;
 * the end of the connection is told once, after all of them.
 */
#include "tests/fuzz/fuzz.h"

#include "base/fd.h"
#include "kata/health.pb-c.h"
#include "ttrpc/client.h"
#include "ttrpc/frame.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <string.h>

#define CALLS 8
#define PIECES 256

static struct loop *loop;
static unsigned told[CALLS], n_told, n_calls, ended;

static void done(void *ctx, const ProtobufCMessage *reply, const struct fault *fault) {
	unsigned *times = ctx;
	require(ended == 0 && !reply != !fault);
	require(!reply || reply->descriptor == &grpc__health_check_response__descriptor);
	(*times)++;
	n_told++;
}

static void on_ended(void *ctx, const struct fault *fault) {
	require(fault->code == FAULT_UNAVAILABLE && n_told == n_calls);
	ended++;
}

static void calls_begin(struct ttrpc_client *c, unsigned n, unsigned given_up) {
	const Grpc__CheckRequest q = GRPC__CHECK_REQUEST__INIT;
	struct ttrpc_call *calls[CALLS];
	n_told = ended = 0;
	memset(told, 0, sizeof(told));
	for (unsigned i = 0; i < n; i++)
		require(ttrpc_call(c, &grpc__health__descriptor, "Check", &q.base, 0, done, &told[i], &calls[i]) == 0);
	loop_turn(loop, 0);
	n_calls = given_up < n ? n - 1 : n;
	if (given_up < n)
		ttrpc_call_cancel(calls[given_up]);
}

static void say(int peer, const void *data, size_t size) {
	ssize_t n = send(peer, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n; /* the client may have gone */
	loop_turn(loop, 0);
}

/* As our own server does: the name of the service is in the sentence. */
static void answer_line(int peer) {
	uint8_t data[512];
	loop_turn(loop, 0);
	ssize_t n = recv(peer, data, sizeof(data), MSG_DONTWAIT);
	require(n > TTRPC_HEADER);
	Ttrpc__Request *q = ttrpc__request__unpack(NULL, ttrpc_frame_parse(data).size, data + TTRPC_HEADER);
	Ttrpc__Response r = TTRPC__RESPONSE__INIT;
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	status.code = FAULT_UNIMPLEMENTED;
	status.message = q->service;
	r.status = &status;
	const struct ttrpc_frame f = { .size = (uint32_t)ttrpc__response__pack(&r, data + TTRPC_HEADER),
				       .stream = 1,
				       .type = TTRPC_RESPONSE };
	ttrpc_frame_write(&f, data);
	ttrpc__request__free_unpacked(q, NULL);
	say(peer, data, TTRPC_HEADER + f.size);
}

static void start(void) {
	static const struct loop_options options = { .buffers = 8, .buffer_size = 4096 };
	require(loop_new(&options, &loop) == 0 && loop_enable(loop, NULL, 0) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	int ends[2];
	if (!loop)
		start();
	if (size < 2)
		return 0;
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	struct ttrpc_client *c;
	const struct ttrpc_client_options options = {
		.loop = loop, .line = data[1] & 0x40, .cancels = data[1] & 1, .ended = on_ended
	};
	require(ttrpc_client_new(&options, ends[0], &c) == 0);
	calls_begin(c, data[1] % CALLS, data[1] / CALLS % CALLS);
	if (options.line && data[1] & 0x80)
		answer_line(ends[1]);
	size_t piece = MAX(data[0] ? data[0] : SIZE_MAX, size / PIECES + 1);
	for (size_t at = 2; at < size; at += MIN(piece, size - at))
		say(ends[1], data + at, MIN(piece, size - at));
	close(ends[1]);
	for (int i = 0; i < 1000 && !ended; i++)
		loop_turn(loop, 1000000);
	require(ended == 1 && n_told == n_calls);
	for (size_t i = 0; i < CALLS; i++)
		require(told[i] <= 1);
	ttrpc_client_free(c);
	loop_turn(loop, 0);
	return 0;
}
