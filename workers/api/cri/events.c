/*
 * GetContainerEvents: the client's stream lasts over restarts of the metadata
 * worker. The internal request is sent again to each successor, which tells
 * again what happened since; by the numbers only what is new goes to the
 * client, and if some can't be told any more the stream ends and says so.
 */
#include "workers/api/cri/cri.h"

#include "base/clock.h"
#include "msg/typed.h"

#include <errno.h>
#include <inttypes.h>

static int events_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	Bulkhead__EventsRequest *q = arena_alloc(t->arena, sizeof(*q));
	if (!q)
		return fault_errno(fault, ENOMEM, "subscribe");
	*q = (Bulkhead__EventsRequest)BULKHEAD__EVENTS_REQUEST__INIT;
	q->since = clock_real();
	*ret_internal = &q->base;
	return 0;
}

/* cursor: the number of the latest event that the client has, plus 1; 0 before
 * the first reply. */
static int events_reply_translate(struct grpc_translation *t, const ProtobufCMessage *internal,
				  ProtobufCMessage **reply, struct fault *fault) {
	const Bulkhead__EventsReply *a = (const Bulkhead__EventsReply *)internal;
	uint64_t first = a->begin ? a->sequence + 1 : a->sequence;
	*reply = NULL;
	if (t->cursor == 0)
		t->cursor = first;
	if (first > t->cursor)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "%" PRIu64 " events were missed: list pods and containers, and subscribe again",
				 first - t->cursor);
	if (a->begin || a->sequence < t->cursor)
		return 0;
	t->cursor = a->sequence + 1;
	if (a->event)
		*reply = &a->event->base;
	return 0;
}

const struct grpc_translator cri_events = {
	.request = events_request,
	.reply = events_reply_translate,
};
