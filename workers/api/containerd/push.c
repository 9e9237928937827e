#include "workers/api/containerd/push.h"

#include <stdio.h>
#include <string.h>

struct ctd_push {
	struct msg_call *asked;
	const struct ctd_push_user *user;
	void *ctx;
};

void ctd_push_free(struct ctd_push *p) {
	if (!p)
		return;
	msg_cancel(p->asked);
	free(p);
}

/* "layer-sha256:...": the names that containerd gives uploads. */
static const char *kind_of(const char *media_type) {
	static const struct {
		const char *part, *kind;
	} kinds[] = {
		{ "image.index", "index" },   { "manifest.list", "index" },    { "manifest", "manifest" },
		{ "image.config", "config" }, { "container.image", "config" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strstr(media_type, kinds[i].part))
			return kinds[i].kind;
	return "layer";
}

static const char *event_of(Bulkhead__PushEvent__State state) {
	switch (state) {
	case BULKHEAD__PUSH_EVENT__STATE__UPLOADING:
		return "uploading";
	case BULKHEAD__PUSH_EVENT__STATE__UPLOADED:
		return "complete";
	case BULKHEAD__PUSH_EVENT__STATE__EXISTS:
		return "already exists";
	default:
		return "waiting";
	}
}

static void blob_tell(struct ctd_push *p, const Bulkhead__PushEvent__Blob *b) {
	char name[128];
	if (!b->blob)
		return;
	snprintf(name, sizeof(name), "%s-%s", kind_of(b->blob->media_type), b->blob->digest);
	p->user->told(p->ctx, event_of(b->state), name, b->offset, b->blob->size);
}

static void pushed(void *ctx, const struct msg_answer *answer) {
	struct ctd_push *p = ctx;
	if (!answer->more)
		p->asked = NULL;
	if (answer->fault) {
		p->user->done(p->ctx, answer->fault);
		return;
	}
	const Bulkhead__PushEvent *e = image_push_answer(answer);
	for (size_t i = 0; i < e->n_blobs; i++)
		blob_tell(p, e->blobs[i]);
	if (!answer->more)
		p->user->done(p->ctx, NULL);
}

struct ctd_push *ctd_push_begin(struct grpc_call *call, const Containerd__Types__Transfer__ImageStore *from,
				const Containerd__Types__Transfer__OCIRegistry *to, Bulkhead__Credentials *credentials,
				const struct ctd_push_user *user, void *ctx) {
	const struct grpc_translation t = { .call = call };
	Bulkhead__ImagePushRequest q = BULKHEAD__IMAGE_PUSH_REQUEST__INIT;
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	struct ctd_push *p = malloc(sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct ctd_push){ .user = user, .ctx = ctx };
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_IMAGE;
	id.namespace_ = ctd_namespace(&t);
	id.key = from->name;
	q.image = &id;
	q.reference = to->reference;
	q.credentials = credentials;
	q.plain_http = to->resolver && strcmp(to->resolver->default_scheme, "http") == 0;
	p->asked = image_push_send(grpc_call_server(call)->metadata, grpc_call_context(call), &q, NULL, 0, pushed, p);
	return p;
}
