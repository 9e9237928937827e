/*
 * The documents that lead from a name to layers: OCI index and docker manifest
 * list, OCI manifest and docker schema 2, and the image's configuration. Pure:
 * bytes in, protobuf messages out, all in the caller's arena.
 *
 * What is refused, each with a sentence that says what it is: docker schema 1,
 * artifacts that are no images, documents that could be read as two kinds,
 * layers that the registry doesn't hold itself, digests other than sha256.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/image.pb-c.h"
#include "platform.h"

#include <stdbool.h>

#define MANIFEST_MAX (4 * 1024 * 1024)
#define CONFIG_MAX (8 * 1024 * 1024)
#define LAYERS_MAX 500 /* more lower folders than this no overlay takes */

/* For the Accept header. */
#define MANIFEST_ACCEPT                                               \
	"application/vnd.oci.image.index.v1+json, "                   \
	"application/vnd.docker.distribution.manifest.list.v2+json, " \
	"application/vnd.oci.image.manifest.v1+json, "                \
	"application/vnd.docker.distribution.manifest.v2+json"

enum manifest_kind { MANIFEST_INDEX, MANIFEST_IMAGE };

struct manifest_entry {
	Bulkhead__Descriptor blob;
	struct platform platform;
	bool any_platform; /* the index says nothing */
};

struct manifest {
	enum manifest_kind kind;
	char *media_type;
	struct manifest_entry *entries; /* of an index */
	size_t n_entries;
	Bulkhead__Descriptor *config; /* of an image */
	Bulkhead__Descriptor **layers;
	size_t n_layers;
};

/* media_type is what the registry or the parent document called it; it may be
 * empty, and must fit what the document itself says. */
int manifest_parse(const void *data, size_t size, const char *media_type, struct arena *arena,
		   struct manifest *ret_manifest, struct fault *fault);
/* Images among an index's entries, whatever their platform. */
size_t manifest_images(const struct manifest *index);
/* The n-th of those, from 1; NULL: there aren't so many. */
const struct manifest_entry *manifest_image(const struct manifest *index, size_t n);
/* The best entry of an index, or a fault that lists what there is. */
int manifest_choose(const struct manifest *index, const struct platform *wanted,
		    const struct manifest_entry **ret_entry, struct fault *fault);
/* wanted NULL: of whatever platform. diff_ids come one per layer, or it is an error. */
int image_config_parse(const void *data, size_t size, const struct platform *wanted, size_t n_layers,
		       struct arena *arena, Bulkhead__ImageConfig **ret_config, char ***ret_diff_ids,
		       struct fault *fault);
