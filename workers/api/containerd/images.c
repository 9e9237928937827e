/* containerd.services.images.v1.Images */
#include "workers/api/containerd/containerd.h"

#include "containerd/images.pb-c.h"

#define I(name) Containerd__Services__Images__V1__##name
#define I_INIT(name) CONTAINERD__SERVICES__IMAGES__V1__##name##__INIT
#define KIND BULKHEAD__OBJECT_KIND__OBJECT_IMAGE

static void *make(struct grpc_translation *t, const Bulkhead__Object *o) {
	I(Image) *i = o->body_case == BULKHEAD__OBJECT__BODY_IMAGE ? ARENA_NEW(t->arena, I(Image), I_INIT(IMAGE))
								   : NULL;
	if (!i || !(i->target = ctd_descriptor_back(t, o->image->target)))
		return NULL;
	i->name = o->id->key;
	i->labels = (void *)o->labels;
	i->n_labels = o->n_labels;
	i->created_at = ctd_time(t, o->created_at);
	i->updated_at = ctd_time(t, o->updated_at);
	return i;
}

static Bulkhead__Object *object(struct grpc_translation *t, const I(Image) * i) {
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

CTD_REPLY_ONE(get_reply, I(GetImageResponse), I_INIT(GET_IMAGE_RESPONSE), image, make)
CTD_REPLY_ONE(create_reply, I(CreateImageResponse), I_INIT(CREATE_IMAGE_RESPONSE), image, make)
CTD_REPLY_ONE(update_reply, I(UpdateImageResponse), I_INIT(UPDATE_IMAGE_RESPONSE), image, make)

static int get(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
	       struct fault *fault) {
	return ctd_get(t, KIND, ((const I(GetImageRequest) *)request)->name, ret_internal, fault);
}

static int list(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const I(ListImagesRequest) *q = (const I(ListImagesRequest) *)request;
	return ctd_list(t, KIND, q->filters, q->n_filters, ret_internal, fault);
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **ret_reply,
		      struct fault *fault) {
	I(ListImagesResponse) *a = ARENA_NEW(t->arena, I(ListImagesResponse), I_INIT(LIST_IMAGES_RESPONSE));
	if (!a)
		return grpc_no_memory(fault);
	*ret_reply = &a->base;
	return ctd_wanted(t, internal, make, (void ***)&a->images, &a->n_images, fault);
}

static int create(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__Object *o = object(t, ((const I(CreateImageRequest) *)request)->image);
	if (!o)
		return grpc_no_memory(fault);
	*ret_internal = &o->base;
	return 0;
}

static int update(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	const I(UpdateImageRequest) *q = (const I(UpdateImageRequest) *)request;
	return ctd_update(t, object(t, q->image), q->update_mask, ret_internal, fault);
}

static int drop(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		struct fault *fault) {
	const I(DeleteImageRequest) *q = (const I(DeleteImageRequest) *)request;
	const char *digest = q->target ? q->target->digest : "";
	return ctd_delete(t, KIND, q->name, q->sync, digest, ret_internal, fault);
}

static const struct grpc_translator on_get = { get, get_reply }, on_list = { list, list_reply },
				    on_create = { create, create_reply }, on_update = { update, update_reply },
				    on_delete = { drop, ctd_empty };

const struct grpc_method ctd_images_methods[] = {
	{ .name = "Get", .number = MSG_object_get, .translator = &on_get },
	{ .name = "List", .number = MSG_object_list, .translator = &on_list },
	{ .name = "Create", .number = MSG_object_create, .translator = &on_create, .changes = true },
	{ .name = "Update", .number = MSG_object_update, .translator = &on_update, .changes = true },
	{ .name = "Delete", .number = MSG_object_delete, .translator = &on_delete, .changes = true },
	{ 0 },
};
