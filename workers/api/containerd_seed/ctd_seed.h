/*
 * containerd's API as it was drafted in May 2017 (packages containerd.v1, ...):
 * translators in front of the rows that today's dialect uses, and nothing else.
 *
 * What differs beside names and numbers:
 *   - there are no namespaces: all is in "default"
 *   - the one snapshotter goes without saying: a container's rootfs is the key
 *     of a snapshot of it
 *   - processes beside a container's first are known by their pids, start at
 *     once and are gone with their end, of which events alone tell
 *   - labels of images are one string, whose form was never defined: kept as
 *     one label
 */
#pragma once

#include "workers/api/containerd/objects.h"

#include "containerd_seed/types.pb-c.h"

extern const struct grpc_method ctd_seed_containers_methods[], ctd_seed_tasks_methods[], ctd_seed_images_methods[],
    ctd_seed_content_methods[], ctd_seed_snapshot_methods[], ctd_seed_version_methods[], ctd_seed_sandbox_methods[],
    ctd_seed_diff_methods[];

/* --- between the files of this folder (common.c) --- */

#define CTD_SEED_SNAPSHOTTER ((char *)"overlayfs")

/* Request parts; NULL when out of memory. */
Bulkhead__Descriptor *ctd_seed_descriptor(struct grpc_translation *t, const Containerd__Seed__Types__Descriptor *from);
Grpc__Mount **ctd_seed_mounts(struct grpc_translation *t, Containerd__Seed__Types__Mount *const *from, size_t n);

/* Reply parts; NULL where there was nothing, or when out of memory. */
Containerd__Seed__Types__Descriptor *ctd_seed_descriptor_back(struct grpc_translation *t,
							      const Bulkhead__Descriptor *from);
