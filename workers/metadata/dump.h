/*
 * What a checkpoint's archive says of its container, in the files and words
 * that others write and read: config.dump and spec.dump as containerd, CRI-O
 * and podman have them, status.dump as containerd.
 *
 * It is for people and their tools; bulkhead never reads it back.
 */
#pragma once

#include "workers/metadata/metadata.h"

/* Adds the texts to the message, from the arena. */
int dump_texts(struct metadata *m, struct arena *a, struct container *c, Bulkhead__ArchiveWriteRequest *to,
	       struct fault *fault) NODISCARD;
