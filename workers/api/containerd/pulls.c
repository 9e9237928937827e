/*
 *   (a lease) -> a pull for each platform, or for each image that the index has,
 *   as the first one tells -> (the lease goes)
 */
#include "workers/api/containerd/pulls.h"

#include "base/sha256.h"
#include "workers/api/containerd/own_lease.h"

#include <stdio.h>
#include <string.h>

struct ctd_pulls {
	struct grpc_call *call;
	struct ctd_pulls_order order;
	const struct ctd_pulls_user *user;
	void *ctx;
	struct ctd_own_lease lease;
	struct msg_call *asked;
	size_t at;		  /* pulls that are done */
	char target[DIGEST_SIZE]; /* of the first */
	bool failed;
	struct fault fault;
};

void ctd_pulls_free(struct ctd_pulls *x) {
	if (!x)
		return;
	msg_cancel(x->asked);
	if (x->lease.made)
		ctd_own_lease_drop(&x->lease, x->call, NULL, NULL);
	free(x);
}

static void over(struct ctd_pulls *x) {
	x->user->done(x->ctx, x->failed ? &x->fault : NULL);
}

static void undone(void *ctx, const struct msg_answer *answer) {
	struct ctd_pulls *x = ctx;
	x->asked = NULL;
	over(x);
}

static void finish(struct ctd_pulls *x, const struct fault *fault) {
	x->failed = fault != NULL;
	if (fault)
		x->fault = *fault;
	if (x->lease.made)
		x->asked = ctd_own_lease_drop(&x->lease, x->call, undone, x);
	else
		over(x);
}

/* --- what is unpacked ------------------------------------------------------- */

static bool wanted(const Containerd__Types__Platform *unpack, const Containerd__Types__Platform *p) {
	return !unpack || !*unpack->architecture ||
	       (strcmp(unpack->os, p->os) == 0 && strcmp(unpack->architecture, p->architecture) == 0 &&
		(!*unpack->variant || strcmp(unpack->variant, p->variant) == 0));
}

static bool unpacks(const struct ctd_pulls *x, const Containerd__Types__Platform *p) {
	bool any = x->order.to->n_platforms == 1 && x->order.to->n_unpacks > 0;
	for (size_t i = 0; !any && i < x->order.to->n_unpacks; i++)
		any = wanted(x->order.to->unpacks[i]->platform, p);
	return any;
}

/* --- one pull --------------------------------------------------------------- */

static void next(struct ctd_pulls *x);

/* False: it has failed. */
static bool same_target(struct ctd_pulls *x, const Bulkhead__V1__PullEvent *e) {
	struct fault fault;
	if (x->at == 0)
		snprintf(x->target, sizeof(x->target), "%s", e->target);
	if (strcmp(x->target, e->target) == 0)
		return true;
	fault_set(&fault, FAULT_ABORTED, "\"%.200s\" has become another image while it was pulled, try again",
		  x->order.request->reference);
	finish(x, &fault);
	return false;
}

static void pulled(void *ctx, const struct msg_answer *answer) {
	struct ctd_pulls *x = ctx;
	if (!answer->more)
		x->asked = NULL;
	if (answer->fault) {
		finish(x, answer->fault);
		return;
	}
	const Bulkhead__V1__PullEvent *e = image_pull_answer(answer);
	x->user->told(x->ctx, e);
	if (answer->more || !same_target(x, e))
		return;
	size_t n = x->order.to->n_platforms ? x->order.to->n_platforms : e->images;
	if (++x->at < n)
		next(x);
	else
		finish(x, NULL);
}

static void platform_set(Bulkhead__Platform *to, const Containerd__Types__Platform *from) {
	to->os = from->os;
	to->architecture = from->architecture;
	to->variant = from->variant;
}

static void next(struct ctd_pulls *x) {
	const Containerd__Types__Transfer__ImageStore *to = x->order.to;
	Bulkhead__ImagePullRequest q = *x->order.request;
	Bulkhead__Object image = *q.image;
	Bulkhead__Platform platform = BULKHEAD__PLATFORM__INIT;
	q.image = &image;
	q.platform = &platform;
	if (to->n_platforms) {
		platform_set(&platform, to->platforms[x->at]);
		q.more_follow |= x->at + 1 < to->n_platforms;
		q.unpack = unpacks(x, to->platforms[x->at]);
	} else {
		q.entry = (uint32_t)x->at + 1;
		q.unpack = to->n_unpacks > 0;
		if (q.unpack && to->unpacks[0]->platform)
			platform_set(&platform, to->unpacks[0]->platform);
	}
	/* A lease of the client's holds all of it from the beginning. */
	if (!*image.held_by && (q.entry || q.more_follow))
		image.held_by = x->order.lease ? x->order.lease : x->lease.id;
	x->asked =
	    image_pull_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), &q, NULL, 0, pulled, x);
}

/* --- the beginning ---------------------------------------------------------- */

static void leased(void *ctx, const struct msg_answer *answer) {
	struct ctd_pulls *x = ctx;
	x->asked = NULL;
	x->lease.made = !answer->fault;
	if (answer->fault)
		finish(x, answer->fault);
	else
		next(x);
}

struct ctd_pulls *ctd_pulls_begin(struct grpc_call *call, const struct ctd_pulls_order *order,
				  const struct ctd_pulls_user *user, void *ctx) {
	struct ctd_pulls *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	*x = (struct ctd_pulls){ .call = call, .order = *order, .user = user, .ctx = ctx };
	if (order->to->n_platforms == 1 || order->lease || *order->request->image->held_by)
		next(x);
	else
		x->asked = ctd_own_lease_make(&x->lease, call, "pull", leased, x);
	return x;
}
