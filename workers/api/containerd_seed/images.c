/* containerd.v1.Images. Put makes a name or moves it. */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "containerd_seed/images.pb-c.h"

#include <string.h>

#define S(name) Containerd__Seed__##name
#define S_INIT(name) CONTAINERD__SEED__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_IMAGE
#define LABELS "io.containerd.image/labels" /* under which the one string is kept */

static char *labels_back(const Bulkhead__Object *o) {
	for (size_t i = 0; i < o->n_labels; i++)
		if (strcmp(o->labels[i]->key, LABELS) == 0)
			return o->labels[i]->value;
	return (char *)"";
}

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	S(Image) *i = ARENA_NEW(t->arena, S(Image), S_INIT(IMAGE));
	if (!i || !(i->target = ctd_seed_descriptor_back(t, o->image->target)))
		return NULL;
	i->name = o->id->key;
	i->labels = labels_back(o);
	return i;
}

/* -1: out of memory. */
static int labels(struct grpc_translation *t, char *text, Bulkhead__Object *o) {
	if (!*text)
		return 0;
	Bulkhead__Object__LabelsEntry *l =
	    ARENA_NEW(t->arena, Bulkhead__Object__LabelsEntry, BULKHEAD__OBJECT__LABELS_ENTRY__INIT);
	if (!l || !(o->labels = arena_alloc(t->arena, sizeof(*o->labels))))
		return -1;
	l->key = (char *)LABELS;
	l->value = text;
	o->labels[o->n_labels++] = l;
	return 0;
}

static int put(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	const S(Image) *i = ((const S(PutRequest) *)request)->image;
	Bulkhead__Object *o = ctd_object(t, KIND, i ? i->name : "");
	if (!o || !(o->image = ARENA_NEW(t->arena, Bulkhead__ImageBody, BULKHEAD__IMAGE_BODY__INIT)))
		return grpc_no_memory(fault);
	o->body_case = BULKHEAD__OBJECT__BODY_IMAGE;
	if (i &&
	    (labels(t, i->labels, o) < 0 || (i->target && !(o->image->target = ctd_seed_descriptor(t, i->target)))))
		return grpc_no_memory(fault);
	int r = ctd_update(t, o, NULL, 0, ret_internal, fault);
	if (r == 0)
		((Bulkhead__ObjectUpdateRequest *)*ret_internal)->make = true;
	return r;
}

static const struct ctd_objects images = { .kind = KIND, .key = "name", .make = make };
static const struct grpc_translator on_put = { .request = put };

const struct grpc_method ctd_seed_images_methods[] = {
	{ .name = "Get", CTD_OBJECT_GET(images) },
	{ .name = "List", CTD_OBJECT_LIST(images) },
	{ .name = "Put", .number = MSG_object_update, .translator = &on_put, .changes = true },
	{ .name = "Delete", CTD_OBJECT_DELETE(images) },
	{ 0 },
};
