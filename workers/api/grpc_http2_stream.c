/*
 * Requests that are a stream of messages. They are handed to the call's handler
 * one after the other, each when it isn't busy; what comes meanwhile waits
 * here, at most a window of it, since the client's window opens only by what
 * has been taken in. A message that is still arriving counts against the
 * connection's budget.
 */
#include "workers/api/grpc_http2.h"

#include <errno.h>

void stream_deinit(struct http2_call *h) {
	loop_source_free_p(&h->feed_later);
	buffer_deinit(&h->waiting);
}

static bool busy(const struct http2_call *h) {
	const struct grpc_handler *handler = handler_of(&h->call);
	return handler->busy && handler->busy(h->call.handler);
}

static int message(struct http2_call *h, struct fault *fault) {
	const ProtobufCMessageDescriptor *type = grpc_input(&h->call.target);
	const struct buffer *body = &h->frame.body;
	struct arena arena;
	arena_init(&arena, msg_decoded_limit(body->size));
	ProtobufCMessage *m = msg_decode(type, &arena, body->data, body->size);
	if (m)
		handler_of(&h->call)->message(h->call.handler, m);
	else
		fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu bytes aren't a valid %s", body->size, type->name);
	arena_deinit(&arena);
	return m ? 0 : -EINVAL;
}

static int bytes(struct http2_call *h, const uint8_t *data, size_t size, size_t *ret_taken, struct fault *fault) {
	int r = frame_feed_one(&h->frame, data, size, ret_taken, fault);
	if (r < 0)
		return r;
	h->owed += *ret_taken;
	if (!http2_hold(h->stream, *ret_taken))
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "too many bytes of requests and unread replies are held already; try again");
	if (!frame_complete(&h->frame))
		return 0;
	r = message(h, fault);
	if (h->call.finished)
		return 0;
	http2_release(h->stream);
	frame_next(&h->frame);
	return r;
}

/* Until all is taken in or the handler has enough. How much was taken; less
 * means nothing when the call is over. */
static size_t feed(struct http2_call *h, const uint8_t *data, size_t size) {
	struct fault fault;
	size_t done = 0;
	while (done < size && !h->call.finished && !busy(h)) {
		size_t taken = 0;
		if (bytes(h, data + done, size - done, &taken, &fault) < 0)
			grpc_call_fail(&h->call, &fault);
		done += taken;
	}
	return done;
}

static void end(struct http2_call *h) {
	h->end_told = true;
	if (h->frame.n_prefix > 0)
		grpc_failf(&h->call, FAULT_INVALID_ARGUMENT, "%s: the request ended within a message",
			   h->call.target.method->name);
	else
		handler_of(&h->call)->end(h->call.handler);
}

/* What follows on input: the end of the request, or more of it. */
static void settle(struct http2_call *h) {
	if (h->call.finished || busy(h))
		return;
	size_t owed = h->owed;
	h->owed = 0;
	if (owed > 0)
		http2_consumed(h->stream, owed);
	if (h->input_over && !h->end_told && h->waiting.size == 0)
		end(h);
}

/* What of data wasn't taken waits; then what follows. */
static void keep(struct http2_call *h, const uint8_t *data, size_t size, size_t done) {
	if (h->call.finished)
		return;
	if (done < size)
		buffer_add(&h->waiting, data + done, size - done);
	if (h->waiting.failed)
		grpc_failf(&h->call, FAULT_RESOURCE_EXHAUSTED, "%s: no memory for the request",
			   h->call.target.method->name);
	else
		settle(h);
}

void stream_data(struct http2_call *h, const uint8_t *data, size_t size) {
	size_t done = h->waiting.size > 0 ? 0 : feed(h, data, size);
	keep(h, data, size, done);
}

void stream_end(struct http2_call *h) {
	h->input_over = true;
	settle(h);
}

static void feed_due(void *ctx) {
	struct http2_call *h = ctx;
	loop_source_free_p(&h->feed_later);
	struct buffer waiting CLEANUP_BUFFER = buffer_take(&h->waiting);
	size_t done = feed(h, waiting.data, waiting.size);
	keep(h, waiting.data, waiting.size, done);
}

void stream_ready(struct http2_call *h) {
	bool due = h->owed > 0 || h->waiting.size > 0 || (h->input_over && !h->end_told);
	if (!due || h->feed_later)
		return;
	/* The handler isn't called back from here, not even to be closed. */
	if (loop_defer(h->call.server->loop, feed_due, h, &h->feed_later) < 0)
		http2_reset(h->stream, HTTP2_INTERNAL_ERROR);
}
