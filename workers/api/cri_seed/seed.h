/*
 * The draft CRI (package runtime, proto2): translators in front of the rows of
 * runtime.v1, and nothing else.
 *
 * What differs beside names and numbers:
 *   - a sandbox and a container have a name instead of metadata: uid is the
 *     name, the namespace "default", the attempt 0, so that the same request
 *     again finds the same object
 *   - namespaces are a sandbox's, as three flags: the host's, or else its own
 *     (of pids: each container's own)
 *   - what v1 has in a security context is in the container's configuration
 *   - unset is not zero: a field that has nothing to say is left out of
 *     replies, and what a request leaves out is the runtime's to choose
 */
#pragma once

#include "workers/api/grpc.h"

#include "cri_seed/runtime.pb-c.h"
#include "msg/typed.h"

extern const struct grpc_method seed_runtime_methods[], seed_image_methods[];

/* sandbox.c, container.c, exec.c, image.c; named as the calls. */
extern const struct grpc_translator seed_create_pod_sandbox, seed_stop_pod_sandbox, seed_remove_pod_sandbox,
    seed_pod_sandbox_status, seed_list_pod_sandbox;
extern const struct grpc_translator seed_create_container, seed_start_container, seed_stop_container,
    seed_remove_container, seed_list_containers, seed_container_status;
extern const struct grpc_handler seed_exec;
extern const struct grpc_translator seed_list_images, seed_image_status, seed_pull_image, seed_remove_image;

/* --- between the files of this folder --- */

/* v1 has no unset strings, the draft no empty ones in replies. */
static inline char *seed_to_v1(char *text) {
	return text ? text : (char *)(uintptr_t)protobuf_c_empty_string;
}
static inline char *seed_from_v1(char *text) {
	return text && *text ? text : NULL;
}

/* NULL in *ret where there was nothing; maps have one layout in both and are
 * taken over as they are. */
int seed_pod_config(struct grpc_translation *t, const Runtime__PodSandboxConfig *from,
		    Runtime__V1__PodSandboxConfig **ret, struct fault *fault);
int seed_namespaces(struct grpc_translation *t, const Runtime__NamespaceOption *from,
		    Runtime__V1__NamespaceOption **ret, struct fault *fault);
int seed_image_spec(struct grpc_translation *t, const Runtime__ImageSpec *from, Runtime__V1__ImageSpec **ret,
		    struct fault *fault);
int seed_image_spec_back(struct grpc_translation *t, const Runtime__V1__ImageSpec *from, Runtime__ImageSpec **ret,
			 struct fault *fault);
/* Remembers a filter's name, which v1 can't ask for: the reply is filtered. */
int seed_filter_name(struct grpc_translation *t, const char *name, struct fault *fault);
bool seed_name_wanted(const struct grpc_translation *t, const char *name);

/* A request that is one id. */
#define SEED_KEY_REQUEST(function, seed_type, v1_type, V1_INIT, field)                   \
	static int function(struct grpc_translation *t, const ProtobufCMessage *request, \
			    ProtobufCMessage **ret_internal, struct fault *fault) {      \
		v1_type *q = ARENA_NEW(t->arena, v1_type, V1_INIT);                      \
		if (!q)                                                                  \
			return grpc_no_memory(fault);                                    \
		q->field = seed_to_v1(((const seed_type *)request)->field);              \
		*ret_internal = &q->base;                                                \
		return 0;                                                                \
	}
