/*
 * Calls with a handler of their own. Of a request that is a stream, messages
 * are handed over one after the other, each when the handler isn't busy; what
 * comes meanwhile waits here, at most a window of it, since the client's window
 * opens only by what has been taken in. A message that is still arriving counts
 * against the connection's budget.
 *
 * A handler is called from the loop or when data arrives, never from within
 * what it calls itself: but closed, which comes with the end that it makes.
 */
#include "workers/api/grpc_private.h"

#include <errno.h>

int handler_open(struct grpc_call *c, struct fault *fault) {
	const struct grpc_handler *h = handler_of(c);
	if (!h)
		return 0;
	if (h->client_streams)
		http2_windows_by_hand(c->stream);
	c->handler = h->open(c);
	return c->handler ? 0 : fault_errno(fault, ENOMEM, "begin");
}

void handler_close(struct grpc_call *c) {
	void *handler = take_ptr(c->handler);
	loop_source_free_p(&c->feed_later);
	loop_source_free_p(&c->room_later);
	buffer_deinit(&c->waiting);
	if (handler)
		handler_of(c)->closed(handler);
}

/* --- the request --- */

static bool busy(const struct grpc_call *c) {
	const struct grpc_handler *h = handler_of(c);
	return h->busy && h->busy(c->handler);
}

static int message(struct grpc_call *c, struct fault *fault) {
	const ProtobufCMessageDescriptor *type = grpc_input(&c->target);
	struct arena arena;
	arena_init(&arena, decoded_limit(c->frame.body.size));
	ProtobufCMessage *m = msg_decode(type, &arena, c->frame.body.data, c->frame.body.size);
	if (m)
		handler_of(c)->message(c->handler, m);
	else
		fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu bytes aren't a valid %s", c->frame.body.size, type->name);
	arena_deinit(&arena);
	return m ? 0 : -EINVAL;
}

static int bytes(struct grpc_call *c, const uint8_t *data, size_t size, size_t *ret_taken, struct fault *fault) {
	int r = frame_feed_one(&c->frame, data, size, ret_taken, fault);
	if (r < 0)
		return r;
	c->owed += *ret_taken;
	if (!http2_hold(c->stream, *ret_taken))
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "too many bytes of requests and unread replies are held already; try again");
	if (!frame_complete(&c->frame))
		return 0;
	r = message(c, fault);
	if (c->finished)
		return 0;
	http2_release(c->stream);
	frame_next(&c->frame);
	return r;
}

/* Until all is taken in or the handler has enough. How much was taken; less
 * means nothing when the call is over. */
static size_t feed(struct grpc_call *c, const uint8_t *data, size_t size) {
	struct fault fault;
	size_t done = 0;
	while (done < size && !c->finished && !busy(c)) {
		size_t taken = 0;
		if (bytes(c, data + done, size - done, &taken, &fault) < 0)
			grpc_call_fail(c, &fault);
		done += taken;
	}
	return done;
}

static void end(struct grpc_call *c) {
	c->end_told = true;
	if (c->frame.n_prefix > 0)
		grpc_failf(c, FAULT_INVALID_ARGUMENT, "%s: the request ended within a message", c->target.method->name);
	else
		handler_of(c)->end(c->handler);
}

/* What follows on input: the end of the request, or more of it. */
static void settle(struct grpc_call *c) {
	if (c->finished || busy(c))
		return;
	size_t owed = c->owed;
	c->owed = 0;
	if (owed > 0)
		http2_consumed(c->stream, owed);
	if (c->input_over && !c->end_told && c->waiting.size == 0)
		end(c);
}

void handler_data(struct grpc_call *c, const uint8_t *data, size_t size) {
	size_t done = c->waiting.size > 0 ? 0 : feed(c, data, size);
	if (c->finished)
		return;
	if (done < size)
		buffer_add(&c->waiting, data + done, size - done);
	if (c->waiting.failed)
		grpc_failf(c, FAULT_RESOURCE_EXHAUSTED, "%s: no memory for the request", c->target.method->name);
	else
		settle(c);
}

void handler_end(struct grpc_call *c) {
	c->input_over = true;
	settle(c);
}

static void feed_due(void *ctx) {
	struct grpc_call *c = ctx;
	loop_source_free_p(&c->feed_later);
	struct buffer waiting CLEANUP_BUFFER = buffer_take(&c->waiting);
	size_t done = feed(c, waiting.data, waiting.size);
	if (c->finished)
		return;
	if (done < waiting.size)
		buffer_add(&c->waiting, waiting.data + done, waiting.size - done);
	if (c->waiting.failed)
		grpc_failf(c, FAULT_RESOURCE_EXHAUSTED, "%s: no memory for the request", c->target.method->name);
	else
		settle(c);
}

void grpc_ready(struct grpc_call *c) {
	bool due = c->owed > 0 || c->waiting.size > 0 || (c->input_over && !c->end_told);
	if (c->finished || !due || c->feed_later)
		return;
	/* The handler isn't called back from here, not even to be closed. */
	if (loop_defer(c->server->loop, feed_due, c, &c->feed_later) < 0)
		http2_reset(c->stream, HTTP2_INTERNAL_ERROR);
}

/* --- replies --- */

static void room_due(void *ctx) {
	struct grpc_call *c = ctx;
	loop_source_free_p(&c->room_later);
	handler_of(c)->room(c->handler);
}

/* From within http2_output, where nothing may be sent. */
void handler_room(struct grpc_call *c) {
	if (!c->handler || !handler_of(c)->room || c->room_later)
		return;
	if (loop_defer(c->server->loop, room_due, c, &c->room_later) < 0)
		c->room_later = NULL; /* the next time tries again */
}
