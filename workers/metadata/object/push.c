/* An image of a namespace goes to a registry: which one it is is looked up here,
 * all else is the image worker's. */
#include "workers/metadata/handlers.h"
#include "workers/metadata/object/object.h"

#define IMAGE BULKHEAD__OBJECT_KIND__OBJECT_IMAGE

struct pushing {
	struct msg_request *r; /* whose arena holds this */
	struct msg_call *call;
	const char *name;
};

static void pushed(void *ctx, const struct msg_answer *answer) {
	struct pushing *p = ctx;
	struct msg_request *r = p->r;
	if (!answer->more)
		r->cancelled = NULL;
	if (answer->fault) {
		struct fault fault = *answer->fault;
		fault_prefix(&fault, 0, "push image \"%.200s\"", p->name);
		msg_fail(r, &fault);
		return;
	}
	msg_reply(r, &registry_push_answer(answer)->base, NULL, 0, answer->more);
}

static void pushing_cancelled(struct msg_request *r, void *ctx) {
	struct pushing *p = ctx;
	r->cancelled = NULL;
	msg_cancel(p->call);
	msg_failf(r, FAULT_CANCELLED, "push image \"%.200s\": the caller gave up", p->name);
}

void image_push(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ImagePushRequest *q = (const Bulkhead__ImagePushRequest *)request;
	Bulkhead__RegistryPushRequest push = BULKHEAD__REGISTRY_PUSH_REQUEST__INIT;
	struct fault fault;
	if (object_key_check(q->image, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__Object *o = q->image->kind == IMAGE ? object_look(m, &r->arena, q->image) : NULL;
	struct pushing *p = arena_zalloc(&r->arena, sizeof(*p));
	if (!o || !o->image || !p) {
		object_fail_missing(r, q->image);
		return;
	}
	*p = (struct pushing){ .r = r, .name = q->image->key };
	push.target = o->image->target;
	push.reference = q->reference;
	push.credentials = q->credentials;
	push.plain_http = q->plain_http;
	push.mount_from = q->image->key;
	r->cancelled = pushing_cancelled;
	r->cancelled_ctx = p;
	p->call = registry_push_send(m->image, &r->context, &push, NULL, 0, pushed, p);
}
