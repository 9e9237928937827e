/*
 * The archive that images are exported as: members of an OCI image layout, and
 * the documents among them. Adding goes on at the end of a buffer, whose failed
 * says that it was out of memory.
 */
#pragma once

#include "workers/api/containerd/export_children.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct export_blob {
	const char *digest;
	enum export_kind kind;
	uint64_t size;
	bool is_target; /* of an image */
	bool here;
	bool optional;			 /* it may not be */
	const struct export_blob *first; /* of an index: the first that is wanted; NULL: none */
	/* Of a manifest that is here: the configuration's digest, then the layers'. */
	const char **parts;
	size_t n_parts;
};

/* An image by one of the names that the client gives. */
struct export_image {
	const char *name;
	const char *media_type;
	uint64_t size;
	const struct export_blob *target; /* NULL: not looked up yet */
};

struct export_set {
	struct export_image *images;
	size_t n_images;
	struct export_blob *blobs;
	size_t n_blobs;
};

/* What comes before the blobs; docker: what docker reads, too. */
void export_add_documents(struct buffer *out, const struct export_set *set, bool docker);
/* Before a blob's bytes, after as many, and after all. */
void export_add_blob(struct buffer *out, const struct export_blob *b);
void export_add_padding(struct buffer *out, uint64_t size);
void export_add_end(struct buffer *out);
