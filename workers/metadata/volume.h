/*
 * Volumes from images: mounts of a container that have an image instead of a
 * host's path. Each is a view of the image's layers, read-only, that the snapshot
 * worker makes when the container is started. What was resolved at its creation
 * stays in its record, so the layers are kept and a restart changes nothing.
 */
#pragma once

#include "internal/record.pb-c.h"
#include "internal/snapshot.pb-c.h"
#include "workers/metadata/metadata.h"

/* Beside the root, in one message. */
#define VOLUMES_MAX (MSG_FDS_MAX - 1)

/* Checks those mounts of record->config and fills record->volumes, whose parts
 * belong to the arena and to the model's images. */
int volumes_take(struct metadata *m, Bulkhead__ContainerRecord *record, struct arena *a, struct fault *fault) NODISCARD;
const Runtime__V1__Mount *volume_mount(const Bulkhead__ContainerRecord *r, size_t i);
/* The request for the view number i; parts belong to the record. */
void volume_request(const Bulkhead__ContainerRecord *r, size_t i, Bulkhead__SnapshotMountRequest *ret);
/* Says of an error which volume it is about, and what kubelet looks for. */
void volume_prefix(const Bulkhead__ContainerRecord *r, size_t i, struct fault *fault);
