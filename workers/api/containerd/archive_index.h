/*
 * Which images an archive has, by the documents in it: index.json of an OCI
 * image layout, or else docker's manifest.json, for whose images manifests are
 * made here.
 */
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/fault.h"
#include "internal/object.pb-c.h"

#include <stdbool.h>

#define ARCHIVE_DOCUMENT_MAX (256 * 1024)
#define ARCHIVE_IMAGES_MAX 256

/* A file that has become content. */
struct archive_blob {
	const char *digest, *media_type; /* of a layer, by its first bytes */
	uint64_t size;
};

struct archive_image {
	const char *name; /* NULL: the archive gives none */
	const char *ref;  /* what comes after the colon of a name that the client gives; may be NULL */
	Bulkhead__Descriptor target;
	struct buffer document; /* the target's bytes, when they are made here */
};

/* The file of that path in the archive; NULL: there is none. */
typedef const struct archive_blob *(*archive_find_fn)(void *ctx, const char *path);

struct archive_images {
	struct archive_image *v;
	size_t n;
	const Bulkhead__Descriptor *index; /* what names all of them; NULL: it isn't kept */
};

void archive_images_deinit(struct archive_images *i);
/* Texts are in the arena. What the documents name is in the archive. */
int archive_index_read(struct arena *a, const struct buffer *json, archive_find_fn find, void *ctx,
		       struct archive_images *ret_images, struct fault *fault) NODISCARD;
int archive_docker_read(struct arena *a, const struct buffer *json, archive_find_fn find, void *ctx,
			struct archive_images *ret_images, struct fault *fault) NODISCARD;
