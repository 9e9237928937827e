/*
 * A call to another worker on behalf of a request: the answers go up as they come
 * down, descriptors and all, and the call ends with the request.
 */
#pragma once

#include "msg/msg.h"

struct msg_relay {
	struct msg_request *request;
	struct msg_call *call; /* the caller sets it */
	size_t n_fds;	       /* of the answer */
	/* A caller that died hasn't given up: its successor asks again for the same,
	 * and the call goes on until then. */
	bool outlives_caller;
};

/* It lives as long as the request. NULL: out of memory, which the request was told. */
struct msg_relay *msg_relay_new(struct msg_request *r, size_t n_fds);
/* Of the call, with the relay: the answers of both rows are the same message. */
void msg_relay_done(void *ctx, const struct msg_answer *a);
