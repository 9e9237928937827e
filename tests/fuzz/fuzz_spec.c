/*
 * From what a client asks for to what the task worker is told: the checks of a
 * pod's and a container's configuration, and the runtime spec made of them. The
 * first two bytes say how many bytes of image configuration follow; the rest is
 * a CreateContainerRequest.
 *
 * Invariants beyond the sanitisers': a refusal has a sentence. A spec packs,
 * has arguments, mounts at absolute paths without "..", ids below 2^31, and
 * annotations in our own name space only.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/metadata/check.h"
#include "workers/metadata/spec/spec.h"

#include "msg/msg.h"

#include <string.h>

#define ARENA_MAX (64u << 20)

static void said(int r, const struct fault *f) {
	require(r == 0 || (f->code != FAULT_NONE && f->text[0]));
}

static void check_mount(const Grpc__Mount *m) {
	size_t n = strlen(m->destination);
	require(m->destination[0] == '/' && !strstr(m->destination, "/../"));
	require(n < 3 || strcmp(m->destination + n - 3, "/..") != 0);
}

static void check_spec(const Grpc__Spec *s, struct arena *a) {
	require(s->process->n_args > 0);
	for (size_t i = 0; i < s->n_mounts; i++)
		check_mount(s->mounts[i]);
	for (size_t i = 0; i < s->n_annotations; i++)
		require(strncmp(s->annotations[i]->key, "bulkhead.io/", 12) == 0);
	if (s->process->user)
		require(s->process->user->uid <= INT32_MAX && s->process->user->gid <= INT32_MAX);
	size_t size = protobuf_c_message_get_packed_size(&s->base);
	uint8_t *packed = arena_alloc(a, size + 1);
	require(!packed || protobuf_c_message_pack(&s->base, packed) == size);
}

static void build(struct arena *a, Runtime__V1__CreateContainerRequest *q, Bulkhead__ImageConfig *image) {
	Bulkhead__SandboxRecord sandbox = BULKHEAD__SANDBOX_RECORD__INIT;
	Bulkhead__ContainerRecord container = BULKHEAD__CONTAINER_RECORD__INIT;
	const struct spec_input in = {
		.sandbox = &sandbox, .container = &container, .pods_dir = "/run/b/pods", .hostname = "host"
	};
	Grpc__Spec *spec;
	struct fault fault = { 0 };
	int r = check_sandbox_config(q->sandbox_config, &fault);
	if (r == 0)
		r = check_container_config(q->config, &fault);
	said(r, &fault);
	if (r < 0)
		return;
	sandbox.id = q->pod_sandbox_id;
	sandbox.config = q->sandbox_config;
	container.id = (char *)"0123456789abcdef";
	container.config = q->config;
	container.image_config = image;
	r = spec_build(a, &in, &spec, &fault);
	said(r, &fault);
	if (r == 0)
		check_spec(spec, a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct arena arena;
	if (size < 2)
		return 0;
	size_t n = (size_t)data[0] << 8 | data[1];
	data += 2;
	size -= 2;
	n = MIN(n, size);
	arena_init(&arena, ARENA_MAX);
	ProtobufCMessage *image = msg_decode(&bulkhead__image_config__descriptor, &arena, data, n);
	ProtobufCMessage *request =
	    msg_decode(&runtime__v1__create_container_request__descriptor, &arena, data + n, size - n);
	if (image && request)
		build(&arena, (Runtime__V1__CreateContainerRequest *)request, (Bulkhead__ImageConfig *)image);
	arena_deinit(&arena);
	return 0;
}
