/*
 * What CreateContainer needs of a checkpoint whose archive's path is its image:
 *
 *   file_open      the pod's keeper opens it
 *   file_digest    which one is it? Only those that were made here are known
 *   layer_unpack   all of it becomes a layer, which holds criu's images
 *   layer_unpack   what the container had changed becomes a layer of its root
 *
 * The archive's bytes decide nothing: they are those that were written here, or
 * there is no restore. Base image, streams and privileges come from the record
 * that was made with it. The layers are garbage until a container has them.
 */
#pragma once

#include "workers/metadata/metadata.h"

struct restore_source {
	const struct image *image;
	char **layers; /* of the root before it changed */
	size_t n_layers;
	char *layer, *diff; /* chain ids */
	const char *privileges;
	Bulkhead__CheckpointPipes *pipes;
};

/* A container has the layers now. */
void restore_taken(struct metadata *m, const struct restore_source *source);
bool restore_wanted(const Runtime__V1__ContainerConfig *config);
/* Fails the request, or calls done with what is valid until it returns. */
typedef void (*restore_done_fn)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
				const struct restore_source *source);
void restore_prepare(struct metadata *m, struct msg_request *r, const Runtime__V1__CreateContainerRequest *q,
		     const char *sandbox_id, restore_done_fn done);
