/* containerd.services.images.v1.Images */
#include "workers/api/containerd/objects.h"

#include "containerd/images.pb-c.h"

#define I(name) Containerd__Services__Images__V1__##name
#define I_INIT(name) CONTAINERD__SERVICES__IMAGES__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_IMAGE

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	I(Image) *i = ARENA_NEW(t->arena, I(Image), I_INIT(IMAGE));
	if (!i || !(i->target = ctd_descriptor_back(t, o->image->target)))
		return NULL;
	i->name = o->id->key;
	i->labels = (void *)o->labels;
	i->n_labels = o->n_labels;
	i->created_at = ctd_time(t, o->created_at);
	i->updated_at = ctd_time(t, o->updated_at);
	return i;
}

static Bulkhead__Object *object(struct grpc_translation *t, const void *from) {
	const I(Image) *i = from;
	Bulkhead__Object *o = ctd_object(t, KIND, i ? i->name : "");
	if (!o || !(o->image = ARENA_NEW(t->arena, Bulkhead__ImageBody, BULKHEAD__IMAGE_BODY__INIT)))
		return NULL;
	o->body_case = BULKHEAD__OBJECT__BODY_IMAGE;
	if (i) {
		o->labels = (void *)i->labels;
		o->n_labels = i->n_labels;
		o->image->target = ctd_descriptor(t, i->target);
	}
	return o;
}

/* One whose target has changed meanwhile isn't the one that was meant. */
static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const Containerd__Types__Descriptor *target = ((const I(DeleteImageRequest) *)request)->target;
	int r = ctd_delete_request(t, request, ret_internal, fault);
	if (r == 0 && target)
		((Bulkhead__ObjectDeleteRequest *)*ret_internal)->target_digest = target->digest;
	return r;
}

static const struct grpc_translator on_delete = { .request = drop };
static const struct ctd_objects images = { .kind = KIND, .key = "name", .make = make, .object = object };

const struct grpc_method ctd_images_methods[] = {
	{ .name = "Get", CTD_OBJECT_GET(images) },
	{ .name = "List", CTD_OBJECT_LIST(images) },
	{ .name = "Create", CTD_OBJECT_CREATE(images) },
	{ .name = "Update", CTD_OBJECT_UPDATE(images) },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .about = &images, .changes = true },
	{ 0 },
};
