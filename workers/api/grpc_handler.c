/*
 * Calls with a handler of their own. A handler is called from the loop or when
 * data arrives, never from within what it calls itself: but closed, which comes
 * with the end that it makes.
 */
#include "workers/api/grpc_private.h"

#include <errno.h>

int handler_open(struct grpc_call *c, struct fault *fault) {
	const struct grpc_handler *h = handler_of(c);
	if (!h)
		return 0;
	c->handler = h->open(c);
	return c->handler ? 0 : fault_errno(fault, ENOMEM, "begin");
}

void handler_close(struct grpc_call *c) {
	void *handler = take_ptr(c->handler);
	loop_source_free_p(&c->room_later);
	if (handler)
		handler_of(c)->closed(handler);
}

void grpc_ready(struct grpc_call *c) {
	if (!c->finished && c->carrier->ready)
		c->carrier->ready(c);
}

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
