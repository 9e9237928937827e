/* Images of the draft CRI. */
#include "workers/api/cri_seed/seed.h"

static int list_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	const Runtime__ImageFilter *f = ((const Runtime__ListImagesRequest *)request)->filter;
	Runtime__V1__ListImagesRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__ListImagesRequest, RUNTIME__V1__LIST_IMAGES_REQUEST__INIT);
	Runtime__V1__ImageFilter *to = ARENA_NEW(t->arena, Runtime__V1__ImageFilter, RUNTIME__V1__IMAGE_FILTER__INIT);
	if (!q || !to)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	if (!f)
		return 0;
	q->filter = to;
	return seed_image_spec(t, f->image, &to->image, fault);
}

static Runtime__Image *image_back(struct grpc_translation *t, const Runtime__V1__Image *from) {
	Runtime__Image *v = ARENA_NEW(t->arena, Runtime__Image, RUNTIME__IMAGE__INIT);
	if (!v)
		return NULL;
	v->id = from->id;
	v->n_repo_tags = from->n_repo_tags;
	v->repo_tags = from->repo_tags;
	v->n_repo_digests = from->n_repo_digests;
	v->repo_digests = from->repo_digests;
	v->has_size = true;
	v->size = from->size;
	return v;
}

static int list_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		      struct fault *fault) {
	const Runtime__V1__ListImagesResponse *from = (const Runtime__V1__ListImagesResponse *)internal;
	Runtime__ListImagesResponse *a = (Runtime__ListImagesResponse *)*reply;
	if (!(a->images = arena_alloc(t->arena, (from->n_images + 1) * sizeof(*a->images))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < from->n_images; i++)
		if (!(a->images[a->n_images++] = image_back(t, from->images[i])))
			return grpc_no_memory(fault);
	return 0;
}

static int status_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	Runtime__V1__ImageStatusRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__ImageStatusRequest, RUNTIME__V1__IMAGE_STATUS_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	return seed_image_spec(t, ((const Runtime__ImageStatusRequest *)request)->image, &q->image, fault);
}

static int status_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Runtime__V1__Image *from = ((const Runtime__V1__ImageStatusResponse *)internal)->image;
	Runtime__ImageStatusResponse *a = (Runtime__ImageStatusResponse *)*reply;
	if ((from && !(a->image = image_back(t, from))))
		return grpc_no_memory(fault);
	return 0;
}

static int pull_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			struct fault *fault) {
	const Runtime__PullImageRequest *from = (const Runtime__PullImageRequest *)request;
	Runtime__V1__PullImageRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__PullImageRequest, RUNTIME__V1__PULL_IMAGE_REQUEST__INIT);
	Runtime__V1__AuthConfig *auth = ARENA_NEW(t->arena, Runtime__V1__AuthConfig, RUNTIME__V1__AUTH_CONFIG__INIT);
	if (!q || !auth)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	if (from->auth) {
		auth->username = seed_to_v1(from->auth->username);
		auth->password = seed_to_v1(from->auth->password);
		auth->auth = seed_to_v1(from->auth->auth);
		auth->server_address = seed_to_v1(from->auth->server_address);
		auth->identity_token = seed_to_v1(from->auth->identity_token);
		auth->registry_token = seed_to_v1(from->auth->registry_token);
		q->auth = auth;
	}
	int r = seed_image_spec(t, from->image, &q->image, fault);
	return r == 0 ? seed_pod_config(t, from->sandbox_config, &q->sandbox_config, fault) : r;
}

static int remove_request(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
			  struct fault *fault) {
	Runtime__V1__RemoveImageRequest *q =
	    ARENA_NEW(t->arena, Runtime__V1__RemoveImageRequest, RUNTIME__V1__REMOVE_IMAGE_REQUEST__INIT);
	if (!q)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	return seed_image_spec(t, ((const Runtime__RemoveImageRequest *)request)->image, &q->image, fault);
}

const struct grpc_translator seed_list_images = { .request = list_request, .reply = list_reply };
const struct grpc_translator seed_image_status = { .request = status_request, .reply = status_reply };
const struct grpc_translator seed_pull_image = { .request = pull_request };
const struct grpc_translator seed_remove_image = { .request = remove_request };
