/* stream_inflate: the snapshot worker's children decompress, the API worker
 * isn't theirs to know. */
#include "workers/metadata/handlers.h"

static void inflated(void *ctx, const struct msg_answer *answer) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct msg_request *r = ctx;
	if (answer->fault)
		msg_fail(r, answer->fault);
	else
		stream_inflate_reply(r, &done, NULL, 0);
}

void stream_inflate(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__Empty *q = (const Bulkhead__Empty *)request;
	pipe_inflate_send(m->snapshot, &r->context, q, r->fds, r->n_fds, inflated, r);
	msg_close_fds(r);
}
