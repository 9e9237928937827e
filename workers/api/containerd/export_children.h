/*
 * What an image's documents lead to: an index to images, a manifest to a
 * configuration and layers. They are whatever a client has made content.
 */
#pragma once

#include "base/arena.h"
#include "base/buffer.h"
#include "base/fault.h"

#include "containerd/types.pb-c.h"

#include <stdbool.h>

#define EXPORT_DOCUMENT_MAX (4 * 1024 * 1024)

enum export_kind { EXPORT_OTHER, EXPORT_INDEX, EXPORT_MANIFEST };

struct export_child {
	const char *digest;	/* sha256, its grammar checked */
	const char *media_type; /* "": not said */
	bool has_platform;
	const char *os, *architecture, *variant; /* "": not said */
};

/* A manifest's first is the configuration, the others are the layers. */
struct export_children {
	struct export_child *v;
	size_t n;
};

/* Of the types that OCI and docker have; OTHER leads to nothing. */
enum export_kind export_kind_of(const char *media_type);
/* In the arena. A fault: it isn't of that kind, or not whole. */
int export_children(struct arena *a, enum export_kind kind, const struct buffer *document,
		    struct export_children *ret_children, struct fault *fault) NODISCARD;
/* It is for one of them, or says no platform. */
bool export_is_for(const struct export_child *c, Containerd__Types__Platform *const *platforms, size_t n);
/* A layer that isn't to be handed on, as those of Windows. */
bool export_is_foreign(const char *media_type);
