/* The builder that the files of this folder share, and the part that each
 * adds. A failed allocation is sticky: build on, check once. */
#pragma once

#include "workers/metadata/spec/spec.h"

#include <stdbool.h>

struct strings {
	char **v;
	size_t n;
};

struct builder {
	struct arena *arena;
	const struct spec_input *in;
	Grpc__Spec *spec;
	struct fault *fault;
	bool failed; /* out of memory */
	bool privileged;
	/* Stands for what the client left out: the pointers below are never NULL. */
	struct {
		Runtime__V1__LinuxContainerSecurityContext security;
		Runtime__V1__NamespaceOption namespaces;
		Runtime__V1__LinuxContainerResources resources;
		Bulkhead__ImageConfig image;
	} absent;
	const Runtime__V1__ContainerConfig *config;
	const Runtime__V1__PodSandboxConfig *pod;
	const Runtime__V1__LinuxContainerSecurityContext *security;
	const Runtime__V1__NamespaceOption *namespaces;
	const Runtime__V1__LinuxContainerResources *resources;
	const Bulkhead__ImageConfig *image;
};

void *builder_alloc(struct builder *b, size_t size);
char *builder_text(struct builder *b, const char *format, ...) PRINTF(2, 3);
/* Appends a copy of the pointer. */
void strings_add(struct builder *b, struct strings *s, const char *text);
/* A list of n pointers with room for one more; NULL when out of memory. */
void *builder_grow(struct builder *b, void *list, size_t n);
#define APPEND(b, list, n, item)                               \
	do {                                                   \
		void *grown_ = builder_grow((b), (list), (n)); \
		if (grown_) {                                  \
			(list) = grown_;                       \
			(list)[(n)++] = (item);                \
		}                                              \
	} while (0)
void builder_annotate(struct builder *b, const char *key, const char *value);

/* A message of a type in the arena: NEW(b, mount, Mount, MOUNT) declares it;
 * it is NULL when out of memory. */
#define NEW(b, name, type, INIT)                                     \
	Grpc__##type *name = builder_alloc(b, sizeof(Grpc__##type)); \
	if (name)                                                    \
	*name = (Grpc__##type)GRPC__##INIT##__INIT

int spec_process(struct builder *b) NODISCARD; /* args, env, cwd, user, limits */
int spec_capabilities(struct builder *b) NODISCARD;
int spec_mounts(struct builder *b) NODISCARD;
int spec_linux(struct builder *b) NODISCARD; /* namespaces, paths, devices, seccomp */
int spec_resources(struct builder *b) NODISCARD;
