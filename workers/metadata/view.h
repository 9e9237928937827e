/* Objects as the CRI shows them. Everything that a view points to belongs to
 * the object or to the arena, so a view lives as long as the request. */
#pragma once

#include "workers/metadata/metadata.h"

/* NULL when out of memory, all of them. */
Runtime__V1__PodSandbox *view_sandbox(struct arena *a, const struct sandbox *s);
Runtime__V1__PodSandboxStatus *view_sandbox_status(struct arena *a, const struct sandbox *s);
Runtime__V1__Container *view_container(struct arena *a, const struct container *c);
Runtime__V1__ContainerStatus *view_container_status(struct metadata *m, struct arena *a, const struct container *c);
/* Those of a pod; how many. */
size_t view_container_statuses(struct metadata *m, struct arena *a, const struct sandbox *s,
			       Runtime__V1__ContainerStatus ***ret_list);
/* view_spec.c: as it was or will be started, with what was found out on the
 * way. It is remade from what made the container, so that nothing but want of
 * memory is in its way. */
int view_container_spec(struct metadata *m, struct arena *a, struct container *c, Grpc__Spec **ret_spec,
			struct fault *fault) NODISCARD;
Grpc__Spec *view_sandbox_spec(struct arena *a, const struct sandbox *s);
/* The image's name as it is now; the one that the container was made with when it has none any more. */
char *view_image_name(struct metadata *m, const struct container *c);
Runtime__V1__Image *view_image(struct metadata *m, struct arena *a, const struct image *i);

Runtime__V1__ContainerState container_state(const struct container *c);
Runtime__V1__PodSandboxState sandbox_state(const struct sandbox *s);
