#include "workers/metadata/volume.h"

#include "workers/metadata/check.h"
#include "workers/metadata/image.h"

#include <errno.h>

/* The name of the CRI for it, which shows in a pod's status. */
#define REASON "ImageVolumeMountFailed"

static int check(const Runtime__V1__Mount *m, struct fault *fault) {
	if (!*m->image->image)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "it names no image");
	if (*m->host_path)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "it has a host path and an image: one of both is too much");
	if (!m->readonly)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "an image can only be mounted with readonly");
	if (m->propagation != RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "an image can only be mounted with private propagation");
	return check_relative_path("sub path", m->image_sub_path, fault);
}

static int take(struct metadata *m, const Runtime__V1__Mount *mount, Bulkhead__ImageVolume *v, struct fault *fault) {
	struct image *i;
	int r = check(mount, fault);
	if (r == 0)
		r = image_find(m, mount->image->image, &i, fault);
	if (r < 0)
		return fault_prefix(fault, r, REASON ": mount \"%.256s\"", mount->container_path);
	v->image_id = i->record->id;
	v->layers = i->record->layers;
	v->n_layers = i->record->n_layers;
	return 0;
}

int volumes_take(struct metadata *m, Bulkhead__ContainerRecord *record, struct arena *a, struct fault *fault) {
	const Runtime__V1__ContainerConfig *c = record->config;
	size_t n = 0;
	for (size_t i = 0; i < c->n_mounts; i++)
		n += c->mounts[i]->image != NULL;
	if (n > VOLUMES_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu volumes from images; at most %d can be mounted", n,
				 VOLUMES_MAX);
	Bulkhead__ImageVolume *v = arena_alloc(a, (n + 1) * sizeof(*v));
	record->volumes = arena_alloc(a, (n + 1) * sizeof(*record->volumes));
	if (!v || !record->volumes)
		return fault_errno(fault, ENOMEM, "find the images of its volumes");
	for (size_t i = 0; i < c->n_mounts; i++) {
		if (!c->mounts[i]->image)
			continue;
		*v = (Bulkhead__ImageVolume)BULKHEAD__IMAGE_VOLUME__INIT;
		v->mount = (uint32_t)i;
		int r = take(m, c->mounts[i], v, fault);
		if (r < 0)
			return r;
		record->volumes[record->n_volumes++] = v++;
	}
	return 0;
}

const Runtime__V1__Mount *volume_mount(const Bulkhead__ContainerRecord *r, size_t i) {
	return r->config->mounts[r->volumes[i]->mount];
}

void volume_request(const Bulkhead__ContainerRecord *r, size_t i, Bulkhead__SnapshotMountRequest *ret) {
	ret->n_parents = r->volumes[i]->n_layers;
	ret->parents = r->volumes[i]->layers;
	ret->sub_path = volume_mount(r, i)->image_sub_path;
}

void volume_prefix(const Bulkhead__ContainerRecord *r, size_t i, struct fault *fault) {
	const Runtime__V1__Mount *m = volume_mount(r, i);
	fault_prefix(fault, 0, REASON ": mount \"%.256s\": image \"%.256s\"", m->container_path, m->image->image);
}
