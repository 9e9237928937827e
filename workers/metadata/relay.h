/* A call to another worker on behalf of a request, and its end with it. */
#pragma once

#include "msg/msg.h"

struct relay {
	struct msg_request *request;
	struct msg_call *call; /* the caller sets it */
	size_t n_fds;	       /* of the answer */
};

/* NULL: out of memory, which the request was told. */
struct relay *relay_new(struct msg_request *r, size_t n_fds);
/* Of the call, with the relay: the answers of both rows are the same message. */
void relay_done(void *ctx, const struct msg_answer *a);
