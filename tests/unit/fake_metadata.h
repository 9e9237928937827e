/*
 * A metadata worker for tests of the API front: the other end of its link, in
 * the same process and loop. What it does is chosen by the id in the request:
 *
 *   missing   NOT_FOUND with a sentence that needs encoding
 *   slow      never answers; counts when the caller gives up
 *   big       answers with an id of 2 MiB
 *   else      answers at once with that id
 */
#pragma once

#include "boot/endpoint.h"
#include "msg/typed.h"

#include <stdio.h>
#include <string.h>

struct fake {
	struct link *link, *api; /* its end and the front's */
	unsigned asked, cancelled;
	struct msg_context last;
	struct msg_request *waiting;
};

static inline void fake_gave_up(struct msg_request *r, void *ctx) {
	struct fake *f = ctx;
	f->cancelled++;
	f->waiting = NULL;
	msg_failf(r, FAULT_CANCELLED, "cancelled");
}

static void on_cri_container_status(struct fake *f, struct msg_request *r,
				    const Runtime__V1__ContainerStatusRequest *m) {
	f->asked++;
	f->last = r->context;
	if (strcmp(m->container_id, "missing") == 0) {
		msg_failf(r, FAULT_NOT_FOUND, "container \"%s\": 100%% gone, caf\xc3\xa9", m->container_id);
		return;
	}
	if (strcmp(m->container_id, "slow") == 0) {
		f->waiting = r;
		r->cancelled = fake_gave_up;
		r->cancelled_ctx = f;
		return;
	}
	Runtime__V1__ContainerStatus status = RUNTIME__V1__CONTAINER_STATUS__INIT;
	Runtime__V1__ContainerStatusResponse reply = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INIT;
	char *big = NULL;
	status.id = m->container_id;
	if (strcmp(m->container_id, "big") == 0) {
		size_t size = (size_t)2 << 20;
		big = malloc(size + 1);
		memset(big, 'b', size);
		big[size] = '\0';
		status.id = big;
	}
	reply.status = &status;
	cri_container_status_reply(r, &reply, NULL, 0);
	free(big);
}

static void on_cri_pull_image(struct fake *f, struct msg_request *r, const Runtime__V1__PullImageRequest *m) {
	char text[32];
	f->asked++;
	snprintf(text, sizeof(text), "%zu", strlen(m->image ? m->image->image : ""));
	Runtime__V1__PullImageResponse reply = RUNTIME__V1__PULL_IMAGE_RESPONSE__INIT;
	reply.image_ref = text;
	cri_pull_image_reply(r, &reply, NULL, 0);
}

static void on_admin_pull(struct fake *f, struct msg_request *r, const Bulkhead__V1__PullRequest *m) {
	Bulkhead__V1__PullEvent event = BULKHEAD__V1__PULL_EVENT__INIT;
	f->asked++;
	for (int i = 0; i < 4; i++)
		admin_pull_reply_part(r, &event);
	if (strcmp(m->image, "broken") == 0) {
		msg_failf(r, FAULT_UNAVAILABLE, "pull \"%s\": the registry is away", m->image);
		return;
	}
	event.image_ref = (char *)"sha256:0";
	admin_pull_reply(r, &event, NULL, 0);
}

HANDLER_DEFINE(struct fake, cri_container_status)
HANDLER_DEFINE(struct fake, cri_pull_image)
HANDLER_DEFINE(struct fake, admin_pull)

static const struct link_handler fake_handlers[] = {
	HANDLER(cri_container_status),
	HANDLER(cri_pull_image),
	HANDLER(admin_pull),
	{ 0 },
};

/* The endpoint that has everything. */
static const struct boot_endpoint fake_endpoint = { .name = "test", .services = GROUPS_SERVED, .access = ACCESS_FULL };

static inline int fake_init(struct fake *f, struct loop *loop) {
	struct link_ends a, b;
	*f = (struct fake){ 0 };
	struct link_options options = {
		.loop = loop,
		.self = ROLE_METADATA,
		.peer = ROLE_API,
		.access = ACCESS_FULL,
		.handlers = fake_handlers,
		.worker = f,
	};
	int r = link_new(&options, &f->link);
	if (r < 0)
		return r;
	options = (struct link_options){ .loop = loop, .self = ROLE_API, .peer = ROLE_METADATA, .access = ACCESS_FULL };
	r = link_new(&options, &f->api);
	if (r < 0)
		return r;
	r = link_ends_new(&a, &b);
	if (r < 0)
		return r;
	r = link_attach_ring(f->link, &a);
	return r < 0 ? r : link_attach_ring(f->api, &b);
}

static inline void fake_deinit(struct fake *f) {
	link_free(f->api);
	link_free(f->link);
}
