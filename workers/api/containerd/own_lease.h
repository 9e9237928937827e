/*
 * A lease of a call's own: it holds what the call makes bit by bit, until
 * something else does. It ends with this process, should that be first.
 */
#pragma once

#include "workers/api/containerd/containerd.h"

#include "base/id.h"

struct ctd_own_lease {
	char id[ID_SIZE + 16];
	bool made;
};

/* In the call's namespace, named after what and a random id; done hears whether
 * it is there, and whoever hears that it is sets made. */
struct msg_call *ctd_own_lease_make(struct ctd_own_lease *l, struct grpc_call *call, const char *what, msg_done_fn done,
				    void *ctx);
/* With done the answer comes when what it held is gone; without, nobody waits. */
struct msg_call *ctd_own_lease_drop(struct ctd_own_lease *l, struct grpc_call *call, msg_done_fn done, void *ctx);
