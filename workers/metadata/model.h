/*
 * The object model in memory: pod sandboxes, containers, images, layers. Lists
 * and statuses are answered from here; the store is read once, at start.
 *
 * Each object is its stored record, decoded into an arena of its own: what is
 * changed in the record is what store_put writes. The model itself stores
 * nothing and sends nothing.
 *
 * Invariants: a container's sandbox outlives it; ids are unique among their
 * kind; a name (of sandbox, container or image) leads to at most one object.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "base/id.h"
#include "base/list.h"
#include "base/map.h"

#include "internal/record.pb-c.h"

struct op;

/* A figure of CPU time, for the rate until a later one; and the last rate. */
struct cpu_sample {
	uint64_t ns;
	int64_t at; /* clock_real; 0: none yet */
	uint64_t nano_cores;
	bool rated;
};

struct sandbox {
	struct list node; /* model.sandboxes */
	struct map_node by_id, by_name;
	struct arena arena;
	Bulkhead__SandboxRecord *record;
	struct list containers; /* struct container.in_sandbox */
	struct op *op;		/* the one that changes it now */
	bool network_down;	/* the task worker says that nothing is left */
	struct cpu_sample cpu;
	int64_t up_at; /* clock_real of its start by us; 0: by an earlier process */
};

struct container {
	struct list node; /* model.containers, or model.dying */
	struct list in_sandbox;
	struct map_node by_id, by_name;
	struct arena arena;
	Bulkhead__ContainerRecord *record;
	struct sandbox *sandbox; /* NULL once dropped */
	struct op *op;
	/* The latest answer of snapshot_usage. */
	uint64_t usage_size, usage_inodes;
	int64_t usage_at;
	struct cpu_sample cpu;
	uint32_t ooms; /* kills for want of memory that were heard of; the record has those that were told */
};

struct image {
	struct list node;
	struct map_node by_id;
	struct arena arena;
	Bulkhead__ImageRecord *record;
	struct image_name *names; /* one per record->names and ->digests */
	size_t n_names;
	bool broken; /* a layer is missing: pull again */
};

struct image_name {
	struct map_node node;
	struct image *image;
};

struct layer {
	struct list node;
	struct map_node by_id;
	struct arena arena;
	Bulkhead__LayerRecord *record;
	int64_t lease_until; /* clock_mono: no garbage before, whoever refers to it */
	bool marked;	     /* during a collection */
};

struct model {
	struct list sandboxes, containers, images, layers; /* oldest first */
	struct list dying; /* containers without a record whose snapshot isn't gone yet */
	struct map sandbox_ids, sandbox_names;
	struct map container_ids, container_names;
	struct map image_ids, image_names, layer_ids;
};

void model_init(struct model *m);
void model_deinit(struct model *m);

/* Each makes an object of a copy of the record and indexes it. NULL with
 * errno: EEXIST (id or name is taken), EINVAL (not what its kind must be),
 * ENOMEM. */
struct sandbox *model_add_sandbox(struct model *m, const Bulkhead__SandboxRecord *r);
struct container *model_add_container(struct model *m, const Bulkhead__ContainerRecord *r);
struct layer *model_add_layer(struct model *m, const Bulkhead__LayerRecord *r);
/* Takes the place of the image with this id, and its names away from others:
 * those whose record changed by that are put in ret_robbed (may be NULL), at
 * most max. */
struct image *model_put_image(struct model *m, const Bulkhead__ImageRecord *r, struct image **ret_robbed, size_t max,
			      size_t *ret_n_robbed);

void model_free_sandbox(struct model *m, struct sandbox *s);
/* Out of the indexes, onto the list of the dying; then free. */
void model_drop_container(struct model *m, struct container *c);
void model_free_container(struct model *m, struct container *c);
void model_free_image(struct model *m, struct image *i);
void model_free_layer(struct model *m, struct layer *l);

/* By id or by a prefix of it that only one has. NOT_FOUND, or INVALID_ARGUMENT
 * when the id is empty or several begin so. */
int model_find_sandbox(struct model *m, const char *id, struct sandbox **ret, struct fault *fault) NODISCARD;
int model_find_container(struct model *m, const char *id, struct container **ret, struct fault *fault) NODISCARD;
/* By id ("sha256:..." or without, or a prefix) or by reference; NULL: none. */
struct image *model_find_image(struct model *m, const char *name);
struct layer *model_find_layer(struct model *m, const char *chain_id);

struct sandbox *model_sandbox_by_name(struct model *m, const Runtime__V1__PodSandboxMetadata *name);
struct container *model_container_by_name(struct model *m, const char *sandbox_id,
					  const Runtime__V1__ContainerMetadata *name);

/* A deep copy in the arena; NULL when out of memory. */
void *message_copy(struct arena *a, const ProtobufCMessage *m);
