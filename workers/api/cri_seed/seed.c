#include "workers/api/cri_seed/seed.h"

#include "base/version.h"

#include <string.h>

int seed_image_spec(struct grpc_translation *t, const Runtime__ImageSpec *from, Runtime__V1__ImageSpec **ret,
		    struct fault *fault) {
	*ret = NULL;
	if (!from)
		return 0;
	Runtime__V1__ImageSpec *to = ARENA_NEW(t->arena, Runtime__V1__ImageSpec, RUNTIME__V1__IMAGE_SPEC__INIT);
	if (!to)
		return grpc_no_memory(fault);
	to->image = seed_to_v1(from->image);
	*ret = to;
	return 0;
}

int seed_image_spec_back(struct grpc_translation *t, const Runtime__V1__ImageSpec *from, Runtime__ImageSpec **ret,
			 struct fault *fault) {
	*ret = NULL;
	if (!from)
		return 0;
	Runtime__ImageSpec *to = ARENA_NEW(t->arena, Runtime__ImageSpec, RUNTIME__IMAGE_SPEC__INIT);
	if (!to)
		return grpc_no_memory(fault);
	to->image = seed_from_v1(from->image);
	*ret = to;
	return 0;
}

int seed_filter_name(struct grpc_translation *t, const char *name, struct fault *fault) {
	if (!name)
		return 0;
	t->state = arena_strdup(t->kept, name);
	return t->state ? 0 : grpc_no_memory(fault);
}

bool seed_name_wanted(const struct grpc_translation *t, const char *name) {
	return !t->state || strcmp(t->state, name) == 0;
}

static void on_version(struct grpc_call *c, const ProtobufCMessage *request) {
	Runtime__VersionResponse reply = RUNTIME__VERSION_RESPONSE__INIT;
	reply.version = (char *)"0.1.0"; /* of the interface, as its clients know it */
	reply.runtime_name = (char *)BULKHEAD_NAME;
	reply.runtime_version = (char *)BULKHEAD_VERSION;
	reply.runtime_api_version = (char *)(uintptr_t)grpc_call_service(c)->version;
	grpc_reply(c, &reply.base);
}

#define CALL(call, row, translation) .name = call, .number = MSG_cri_##row, .translator = &seed_##translation

const struct grpc_method seed_runtime_methods[] = {
	{ .name = "Version", .answer = on_version },
	{ CALL("CreatePodSandbox", run_pod_sandbox, create_pod_sandbox), .changes = true },
	{ CALL("StopPodSandbox", stop_pod_sandbox, stop_pod_sandbox), .changes = true },
	{ CALL("RemovePodSandbox", remove_pod_sandbox, remove_pod_sandbox), .changes = true },
	{ CALL("PodSandboxStatus", pod_sandbox_status, pod_sandbox_status) },
	{ CALL("ListPodSandbox", list_pod_sandbox, list_pod_sandbox) },
	{ CALL("CreateContainer", create_container, create_container), .changes = true },
	{ CALL("StartContainer", start_container, start_container), .changes = true },
	{ CALL("StopContainer", stop_container, stop_container), .changes = true },
	{ CALL("RemoveContainer", remove_container, remove_container), .changes = true },
	{ CALL("ListContainers", list_containers, list_containers) },
	{ CALL("ContainerStatus", container_status, container_status) },
	{ .name = "Exec", .handler = &seed_exec, .changes = true },
	{ 0 },
};

const struct grpc_method seed_image_methods[] = {
	{ CALL("ListImages", list_images, list_images) },
	{ CALL("ImageStatus", image_status, image_status) },
	{ CALL("PullImage", pull_image, pull_image), .changes = true },
	{ CALL("RemoveImage", remove_image, remove_image), .changes = true },
	{ 0 },
};
