/* Creation of a task from a checkpoint; see restore.c. */
#pragma once

#include "base/sha256.h"
#include "internal/ctask.pb-c.h"
#include "workers/metadata/layer_make.h"
#include "workers/metadata/op.h"

struct ctask;

/* Part of the operation that creates the task. */
struct ctask_restore {
	char digest[DIGEST_SIZE]; /* of the archive; empty: it is no restore */
	int images;		  /* criu's folder; -1 */
	Bulkhead__CheckpointPipes pipes;
	struct op *op;
	struct msg_context context;
	struct layer_making layer;
};

/* The request names a checkpoint: may the container be made from it? */
int ctask_restore_check(struct metadata *m, const Bulkhead__CtaskCreateRequest *q,
			const Bulkhead__ContainerBody *container, struct fault *fault) NODISCARD;
/* Two steps, which end with op_next or op_fail. */
void ctask_restore_unpack(struct op *op, struct ctask_restore *x);
void ctask_restore_open(struct op *op, struct ctask_restore *x);

/* The task has begun or is gone, or its record has the layer: it goes when nobody has it. */
void ctask_restore_taken(struct metadata *m, const struct ctask *t);
/* Calls fn for each layer that a task's start needs. */
void ctask_restores_each_layer(struct metadata *m, void (*fn)(struct metadata *m, char *const *ids, size_t n));
