/*
 * An image for the platforms that a client names, or for all that it has: one
 * pull after the other, of which the last makes the image. Until then a lease
 * holds what has come.
 */
#pragma once

#include "workers/api/containerd/containerd.h"

#include "containerd/transfer_types.pb-c.h"

struct ctd_pulls;

struct ctd_pulls_order {
	/* But for platform, entry and unpack. With more_follow no image is made of what is pulled. */
	const Bulkhead__ImagePullRequest *request;
	/* Its platforms (none: all) and unpacks count. */
	const Containerd__Types__Transfer__ImageStore *to;
	char *lease; /* NULL: one of its own, if more than one pull needs it */
};

struct ctd_pulls_user {
	void (*told)(void *ctx, const Bulkhead__V1__PullEvent *event);
	void (*done)(void *ctx, const struct fault *fault); /* once, later; NULL: the image is there */
};

/* What the order points to lives as long as the call. NULL: out of memory. */
struct ctd_pulls *ctd_pulls_begin(struct grpc_call *call, const struct ctd_pulls_order *order,
				  const struct ctd_pulls_user *user, void *ctx);
/* NULL does nothing. */
void ctd_pulls_free(struct ctd_pulls *x);
