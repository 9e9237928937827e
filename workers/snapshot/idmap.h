/*
 * Layers for pods that have a user namespace. What lies on the disk belongs to
 * the ids that the image names; the pod's ids are others of the host's. An
 * overlay can't be mapped itself, but its lower folders can: while one is made,
 * a mapped clone of the folder of the layers is attached at ROOM_MAPPED. Upper
 * folders aren't mapped, so what is in them belongs to the host's ids.
 */
#pragma once

#include "base/fault.h"
#include "internal/snapshot.pb-c.h"

#include <stdbool.h>

#define ROOM_MAPPED ".mapped"

struct overlay;

/* Between the two, ROOM_MAPPED is the working directory with other owners. */
int idmap_attach(int userns, struct fault *fault) NODISCARD;
void idmap_detach(void);
/* A detached mount of which nobody has opened anything yet. */
int idmap_mount(int mount, int userns, struct fault *fault) NODISCARD;

/* The host's id of an id in the namespace; (unsigned)-1: it has none. */
unsigned idmap_host_id(Bulkhead__IdMapping *const *map, size_t n, unsigned id);

/* A user namespace to try with. For the time before the worker is confined. */
int idmap_namespace_new(void);
/* Whether the file system of the layers, and overlayfs on it, can do it. */
bool idmap_probe(const struct overlay *o, int userns);
