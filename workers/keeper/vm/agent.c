/*
 * Unary ttrpc calls to the guest's agent: a frame is a header of ten bytes and a
 * message; stream ids are odd and rise; answers come in any order. What the
 * guest sends is bounded and decoded with checks; what isn't an answer to an
 * open call is left alone.
 */
#include "workers/keeper/vm/relay.h"

#include "base/arena.h"
#include "base/clock.h"
#include "kata/health.pb-c.h"
#include "msg/msg.h"
#include "ttrpc/ttrpc.pb-c.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HEADER 10
#define FRAME_MAX ((uint32_t)4 << 20)
#define READ_SIZE 65536
enum { FRAME_REQUEST = 1, FRAME_RESPONSE = 2 };

struct call {
	struct list node;
	struct agent *agent;
	uint32_t stream;
	const ProtobufCMessageDescriptor *reply_type;
	agent_done_fn done;
	void *ctx;
	struct loop_source *timer;
	struct fault *failed;
};

struct agent {
	struct loop *loop;
	int fd;
	void (*down)(void *ctx, const char *why);
	void *ctx;
	struct loop_source *readable, *writable;
	struct buffer in, out;
	size_t sent;
	uint32_t next_stream;
	struct list calls;
	bool dead;
};

static uint32_t get32(const uint8_t *p) {
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v) {
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void die(struct agent *a, const char *why) {
	if (a->dead)
		return;
	a->dead = true;
	loop_source_free_p(&a->readable);
	loop_source_free_p(&a->writable);
	a->down(a->ctx, why);
}

/* --- answers ---------------------------------------------------------------- */

static void call_end(struct call *c, const ProtobufCMessage *reply, const struct fault *fault) {
	agent_done_fn done = c->done;
	void *ctx = c->ctx;
	list_unlink(&c->node);
	loop_source_free(c->timer);
	free(c->failed);
	free(c);
	done(ctx, reply, fault);
}

static void response_handle(struct call *c, const uint8_t *data, size_t size) {
	struct arena arena;
	struct fault fault = { 0 };
	const ProtobufCMessage *reply = NULL;
	arena_init(&arena, 0);
	const Ttrpc__Response *r =
	    (const Ttrpc__Response *)msg_decode(&ttrpc__response__descriptor, &arena, data, size);
	if (!r)
		fault_set(&fault, FAULT_INTERNAL, "the guest's answer can't be read");
	else if (r->status && r->status->code)
		fault_set(&fault,
			  r->status->code > 0 && r->status->code <= FAULT_UNAUTHENTICATED
			      ? (enum fault_code)r->status->code
			      : FAULT_UNKNOWN,
			  "%s", r->status->message);
	else if (!(reply = msg_decode(c->reply_type, &arena, r->payload.data, r->payload.len)))
		fault_set(&fault, FAULT_INTERNAL, "the guest's answer can't be read");
	call_end(c, reply, reply ? NULL : &fault);
	arena_deinit(&arena);
}

static void frame_handle(struct agent *a, const uint8_t *frame, size_t size) {
	uint32_t stream = get32(frame + 4);
	if (frame[8] != FRAME_RESPONSE)
		return;
	list_for_each (n, &a->calls) {
		struct call *c = list_entry(n, struct call, node);
		if (c->stream == stream) {
			response_handle(c, frame + HEADER, size - HEADER);
			return;
		}
	}
}

static void frames_handle(struct agent *a) {
	size_t at = 0;
	while (!a->dead && a->in.size - at >= HEADER) {
		uint32_t length = get32(a->in.data + at);
		if (length > FRAME_MAX) {
			die(a, "it sends a message that is too long");
			return;
		}
		if (a->in.size - at < HEADER + (size_t)length)
			break;
		frame_handle(a, a->in.data + at, HEADER + (size_t)length);
		at += HEADER + (size_t)length;
	}
	memmove(a->in.data, a->in.data + at, a->in.size - at);
	a->in.size -= at;
}

static void readable(void *ctx, uint32_t events) {
	struct agent *a = ctx;
	while (!a->dead) {
		uint8_t *room = buffer_reserve(&a->in, READ_SIZE);
		if (!room) {
			die(a, "out of memory");
			return;
		}
		ssize_t n = read(a->fd, a->in.data + a->in.size, READ_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			die(a, "its line is closed");
			return;
		}
		a->in.size += (size_t)n;
		frames_handle(a);
	}
}

/* --- requests --------------------------------------------------------------- */

static void out_write(void *ctx, uint32_t events) {
	struct agent *a = ctx;
	while (!a->dead && a->sent < a->out.size) {
		ssize_t n = write(a->fd, a->out.data + a->sent, a->out.size - a->sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			die(a, "its line is broken");
			return;
		}
		a->sent += (size_t)n;
	}
	buffer_deinit(&a->out);
	a->sent = 0;
}

static void refuse(void *ctx) {
	struct call *c = ctx;
	struct fault fault = *c->failed;
	call_end(c, NULL, &fault);
}

static void timed_out(void *ctx) {
	struct fault fault;
	fault_set(&fault, FAULT_DEADLINE_EXCEEDED, "the virtual machine doesn't answer");
	call_end(ctx, NULL, &fault);
}

static int request_send(struct agent *a, uint32_t stream, const char *service, const char *method,
			const ProtobufCMessage *request, int64_t timeout_ns) {
	Ttrpc__Request q = TTRPC__REQUEST__INIT;
	size_t size = protobuf_c_message_get_packed_size(request);
	CLEANUP_FREE uint8_t *packed = malloc(size + 1);
	if (!packed)
		return -ENOMEM;
	protobuf_c_message_pack(request, packed);
	q.service = (char *)(uintptr_t)service;
	q.method = (char *)(uintptr_t)method;
	q.payload.data = packed;
	q.payload.len = size;
	q.timeout_nano = timeout_ns;
	size_t whole = ttrpc__request__get_packed_size(&q);
	if (whole > FRAME_MAX)
		return -EMSGSIZE;
	if (!buffer_reserve(&a->out, HEADER + whole))
		return -ENOMEM;
	uint8_t *frame = a->out.data + a->out.size;
	put32(frame, (uint32_t)whole);
	put32(frame + 4, stream);
	frame[8] = FRAME_REQUEST;
	frame[9] = 0;
	ttrpc__request__pack(&q, frame + HEADER);
	a->out.size += HEADER + whole;
	out_write(a, 0);
	return a->dead ? -EPIPE : 0;
}

static void call(struct agent *a, const char *service, const char *method, const ProtobufCMessage *request,
		 int64_t timeout_ns, const ProtobufCMessageDescriptor *reply_type, agent_done_fn done, void *ctx) {
	struct call *c = calloc(1, sizeof(*c));
	/* Nothing that the relay has could be told of it. */
	if (!c || !(c->failed = malloc(sizeof(*c->failed)))) {
		free(c);
		die(a, "out of memory");
		return;
	}
	c->agent = a;
	c->stream = a->next_stream;
	a->next_stream += 2;
	c->reply_type = reply_type;
	c->done = done;
	c->ctx = ctx;
	list_append(&a->calls, &c->node);
	int r = a->dead ? -EPIPE : request_send(a, c->stream, service, method, request, timeout_ns);
	if (r == 0 && timeout_ns > 0)
		r = loop_timer(a->loop, clock_mono() + timeout_ns, timed_out, c, &c->timer);
	if (r < 0) {
		fault_errno(c->failed, r, "ask the virtual machine");
		if (loop_defer(a->loop, refuse, c, &c->timer) < 0)
			die(a, "out of memory");
	}
}

void agent_call(struct agent *a, const char *method, const ProtobufCMessage *request, int64_t timeout_ns,
		const ProtobufCMessageDescriptor *reply_type, agent_done_fn done, void *ctx) {
	call(a, "grpc.AgentService", method, request, timeout_ns, reply_type, done, ctx);
}

void agent_check(struct agent *a, int64_t timeout_ns, agent_done_fn done, void *ctx) {
	const Grpc__CheckRequest q = GRPC__CHECK_REQUEST__INIT;
	call(a, "grpc.Health", "Check", &q.base, timeout_ns, &grpc__health_check_response__descriptor, done, ctx);
}

int agent_new(struct loop *l, int fd, void (*down)(void *ctx, const char *why), void *ctx, struct agent **ret_agent) {
	struct agent *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct agent){ .loop = l, .fd = fd, .down = down, .ctx = ctx, .next_stream = 1 };
	list_init(&a->calls);
	int r = loop_poll(l, fd, POLLIN, readable, a, &a->readable);
	if (r == 0)
		r = loop_poll(l, fd, POLLOUT, out_write, a, &a->writable);
	if (r < 0) {
		loop_source_free(a->readable);
		free(a);
		return r;
	}
	*ret_agent = a;
	return 0;
}
