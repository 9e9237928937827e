/*
 * Whatever its name, a runtime that is served is the keeper. Its features are in
 * the form of the OCI runtime specification's features.md; what isn't said there
 * isn't known, as the lists of the system call filter, which the task worker has.
 */
#include "workers/api/containerd/runtime_info.h"

#include "base/capability.h"
#include "base/json.h"
#include "base/mountopt.h"
#include "base/version.h"

#define T(name) Containerd__Types__##name
#define T_INIT(name) CONTAINERD__TYPES__##name##__INIT
#define DEFAULT_NAME "io.containerd.runc.v2"
/* As typeurl of containerd's clients registers it. */
#define FEATURES_URL "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

static void enabled(struct json *j, const char *key, bool value) {
	json_open(j, key, '{');
	json_bool(j, "enabled", value);
	json_close(j, '}');
}

static void linux_features(struct json *j) {
	static const char *const namespaces[] = { "cgroup", "ipc", "mount", "network", "pid", "uts" };
	json_open(j, "linux", '{');
	json_open(j, "namespaces", '[');
	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++)
		json_text(j, NULL, namespaces[i]);
	json_close(j, ']');
	json_open(j, "capabilities", '[');
	for (size_t i = 0; i < CAPABILITIES; i++)
		json_text(j, NULL, capability_names[i]);
	json_close(j, ']');
	json_open(j, "cgroup", '{');
	json_bool(j, "v1", true);
	json_bool(j, "v2", true);
	json_close(j, '}');
	enabled(j, "seccomp", true);
	enabled(j, "apparmor", true);
	enabled(j, "selinux", true);
	enabled(j, "intelRdt", false);
	/* A container of containerd's API has no user namespace to map to. */
	json_open(j, "mountExtensions", '{');
	enabled(j, "idmap", false);
	json_close(j, '}');
	json_close(j, '}');
}

static void features(struct json *j) {
	const char *option;
	json_open(j, NULL, '{');
	json_text(j, "ociVersionMin", "1.0.0");
	json_text(j, "ociVersionMax", "1.2.0");
	json_open(j, "hooks", '[');
	json_close(j, ']');
	json_open(j, "mountOptions", '[');
	for (size_t i = 0; (option = mount_option_name(i)); i++)
		json_text(j, NULL, option);
	json_close(j, ']');
	linux_features(j);
	json_close(j, '}');
}

static Google__Protobuf__Any *features_any(struct grpc_translation *t) {
	struct json j = { 0 };
	Google__Protobuf__Any *any = ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT);
	features(&j);
	CLEANUP_BUFFER struct buffer text = buffer_take(&j.text);
	if (!any || text.failed || !(any->value.data = arena_alloc(t->arena, text.size)))
		return NULL;
	memcpy(any->value.data, text.data, text.size);
	any->value.len = text.size;
	any->type_url = (char *)FEATURES_URL;
	return any;
}

T(RuntimeInfo) * runtime_info(struct grpc_translation *t, const T(RuntimeRequest) * request) {
	T(RuntimeInfo) *i = ARENA_NEW(t->arena, T(RuntimeInfo), T_INIT(RUNTIME_INFO));
	if (!i || !(i->version = ARENA_NEW(t->arena, T(RuntimeVersion), T_INIT(RUNTIME_VERSION))) ||
	    !(i->features = features_any(t)))
		return NULL;
	i->name = *request->runtime_path ? request->runtime_path : (char *)DEFAULT_NAME;
	i->version->version = (char *)BULKHEAD_VERSION;
	i->version->revision = (char *)BULKHEAD_NAME;
	i->options = request->options;
	return i;
}
