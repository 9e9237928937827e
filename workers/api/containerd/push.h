/* An image of the call's namespace, to a registry: the daemon uploads it. */
#pragma once

#include "workers/api/containerd/containerd.h"

#include "containerd/transfer_types.pb-c.h"

struct ctd_push;

struct ctd_push_user {
	/* How far a blob of it is; name is in containerd's words. */
	void (*told)(void *ctx, const char *event, const char *name, uint64_t offset, uint64_t total);
	/* Once, later; fault NULL: all of it is there. */
	void (*done)(void *ctx, const struct fault *fault);
};

/* from and to live as long as the call; credentials may be NULL. NULL: out of memory. */
struct ctd_push *ctd_push_begin(struct grpc_call *call, const Containerd__Types__Transfer__ImageStore *from,
				const Containerd__Types__Transfer__OCIRegistry *to, Bulkhead__Credentials *credentials,
				const struct ctd_push_user *user, void *ctx);
/* NULL does nothing. */
void ctd_push_free(struct ctd_push *p);
