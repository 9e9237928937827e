/* The row content_open: a blob that the namespace has, as the image worker opens it. */
#include "workers/metadata/handlers.h"
#include "workers/metadata/object/object.h"

struct reading {
	struct msg_request *r;
	const Bulkhead__Object *content;
};

static void blob_opened(void *ctx, const struct msg_answer *answer) {
	struct reading *g = ctx;
	if (answer->fault)
		msg_fail(g->r, answer->fault);
	else
		content_open_reply(g->r, g->content, answer->fds, 1);
}

void content_open(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectKey *id = (const Bulkhead__ObjectKey *)request;
	Bulkhead__Key q = BULKHEAD__KEY__INIT;
	struct fault fault;
	if (object_key_check(id, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	const Bulkhead__Object *o = id->kind == BULKHEAD__OBJECT_KIND__OBJECT_CONTENT ? object_look(m, &r->arena, id)
										      : NULL;
	struct reading *g = o ? arena_alloc(&r->arena, sizeof(*g)) : NULL;
	o = g ? message_copy(&r->arena, &o->base) : NULL;
	if (!o) {
		object_fail_missing(r, id);
		return;
	}
	*g = (struct reading){ .r = r, .content = o };
	q.id = id->key;
	blob_open_send(m->image, &r->context, &q, NULL, 0, blob_opened, g);
}
