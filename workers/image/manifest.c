/*
 * One document at a time. A media type is a row of a table that says what may
 * be done with it; everything that isn't in the table is refused by name.
 */
#include "manifest.h"

#include "base/id.h"
#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ENTRIES_MAX 1000
#define OCI "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

enum media_kind { MEDIA_UNKNOWN, MEDIA_INDEX, MEDIA_IMAGE, MEDIA_SCHEMA1, MEDIA_CONFIG, MEDIA_LAYER, MEDIA_FOREIGN };

static const struct {
	const char *type;
	enum media_kind kind;
} media[] = {
	{ OCI "index.v1+json", MEDIA_INDEX },
	{ DOCKER "distribution.manifest.list.v2+json", MEDIA_INDEX },
	{ OCI "manifest.v1+json", MEDIA_IMAGE },
	{ DOCKER "distribution.manifest.v2+json", MEDIA_IMAGE },
	{ DOCKER "distribution.manifest.v1+json", MEDIA_SCHEMA1 },
	{ DOCKER "distribution.manifest.v1+prettyjws", MEDIA_SCHEMA1 },
	{ OCI "config.v1+json", MEDIA_CONFIG },
	{ DOCKER "container.image.v1+json", MEDIA_CONFIG },
	{ OCI "layer.v1.tar", MEDIA_LAYER },
	{ OCI "layer.v1.tar+gzip", MEDIA_LAYER },
	{ OCI "layer.v1.tar+zstd", MEDIA_LAYER },
	{ DOCKER "image.rootfs.diff.tar", MEDIA_LAYER },
	{ DOCKER "image.rootfs.diff.tar.gzip", MEDIA_LAYER },
	{ DOCKER "image.rootfs.diff.tar.zstd", MEDIA_LAYER },
	{ OCI "layer.nondistributable.v1.tar", MEDIA_FOREIGN },
	{ OCI "layer.nondistributable.v1.tar+gzip", MEDIA_FOREIGN },
	{ OCI "layer.nondistributable.v1.tar+zstd", MEDIA_FOREIGN },
	{ DOCKER "image.rootfs.foreign.diff.tar", MEDIA_FOREIGN },
	{ DOCKER "image.rootfs.foreign.diff.tar.gzip", MEDIA_FOREIGN },
};

static enum media_kind media_kind(const char *type) {
	size_t n = strcspn(type, "; ");
	for (size_t i = 0; i < ARRAY_SIZE(media); i++)
		if (strlen(media[i].type) == n && strncmp(media[i].type, type, n) == 0)
			return media[i].kind;
	return MEDIA_UNKNOWN;
}

static int no_memory(struct fault *fault) {
	return fault_errno(fault, ENOMEM, "read a manifest");
}

static int parse_descriptor(const struct json *n, const char *what, struct arena *arena, Bulkhead__Descriptor *ret,
			    struct fault *fault) {
	const char *digest = json_text(n, "digest");
	int64_t size;
	if (!json_is_object(n))
		return fault_set(fault, FAULT_DATA_LOSS, "%s is missing or no object", what);
	if (!digest_valid(digest))
		return fault_set(fault, FAULT_DATA_LOSS, "%s has no valid sha256 digest (\"%.100s\")", what, digest);
	if (!json_integer(json_get(n, "size"), &size) || size < 0 || size == INT64_MAX)
		return fault_set(fault, FAULT_DATA_LOSS, "%s %s has no valid size", what, digest);
	bulkhead__descriptor__init(ret);
	ret->digest = arena_strdup(arena, digest);
	ret->media_type = arena_strdup(arena, json_text(n, "mediaType"));
	ret->size = (uint64_t)size;
	return ret->digest && ret->media_type ? 0 : no_memory(fault);
}

/* --- which kind ------------------------------------------------------------ */

/* What the document is by its own members; its mediaType and the one it came
 * with must agree, so that no two readers take it for different things. */
static int kind_of(const struct json *doc, const char *given, enum manifest_kind *ret_kind, struct fault *fault) {
	const char *own = json_text(doc, "mediaType");
	int64_t version = 0;
	json_integer(json_get(doc, "schemaVersion"), &version);
	enum media_kind a = media_kind(given), b = media_kind(own);
	if (a == MEDIA_SCHEMA1 || b == MEDIA_SCHEMA1 || version == 1)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "the registry has it in docker's old schema 1 only, which isn't supported: push it "
				 "again with a current tool");
	if (!json_is_object(doc) || version != 2)
		return fault_set(fault, FAULT_DATA_LOSS, "not an image manifest (schemaVersion isn't 2)");
	bool index = json_get(doc, "manifests") != NULL;
	bool image = json_get(doc, "layers") || json_get(doc, "config");
	if (index == image)
		return fault_set(fault, FAULT_DATA_LOSS, "%s",
				 index ? "the manifest is both an index and an image"
				       : "the manifest has neither layers nor manifests");
	enum media_kind want = index ? MEDIA_INDEX : MEDIA_IMAGE;
	if (own[0] && b != want)
		return fault_set(fault, FAULT_DATA_LOSS, "the manifest calls itself \"%.100s\" but is %s", own,
				 index ? "an index" : "an image manifest");
	/* Registries that know no better say application/json or text/plain. */
	if (a != MEDIA_UNKNOWN && a != want)
		return fault_set(fault, FAULT_DATA_LOSS, "the manifest came as \"%.100s\" but is %s", given,
				 index ? "an index" : "an image manifest");
	*ret_kind = index ? MANIFEST_INDEX : MANIFEST_IMAGE;
	return 0;
}

static const char *default_type(const char *own, const char *given, enum manifest_kind kind) {
	if (own[0])
		return own;
	if (media_kind(given) != MEDIA_UNKNOWN)
		return given;
	return kind == MANIFEST_INDEX ? OCI "index.v1+json" : OCI "manifest.v1+json";
}

/* --- index ----------------------------------------------------------------- */

static int parse_index(const struct json *doc, struct arena *arena, struct manifest *m, struct fault *fault) {
	const struct json *list = json_get(doc, "manifests");
	size_t n = json_length(list);
	if (!json_is_array(list) || n > ENTRIES_MAX)
		return fault_set(fault, FAULT_DATA_LOSS, "the index must list at most %d manifests", ENTRIES_MAX);
	m->entries = arena_zalloc(arena, (n + 1) * sizeof(*m->entries));
	if (!m->entries)
		return no_memory(fault);
	for (size_t i = 0; i < n; i++) {
		struct manifest_entry *e = &m->entries[m->n_entries];
		const struct json *node = json_at(list, i), *p = json_get(node, "platform");
		const char *type = json_text(node, "mediaType");
		/* What isn't an image (signatures, attestations of other kinds) is no candidate. */
		if (type[0] && media_kind(type) != MEDIA_IMAGE && media_kind(type) != MEDIA_INDEX)
			continue;
		int r = parse_descriptor(node, "a manifest of the index", arena, &e->blob, fault);
		if (r < 0)
			return r;
		e->any_platform = !json_is_object(p);
		e->platform = platform_make(json_text(p, "os"), json_text(p, "architecture"), json_text(p, "variant"));
		m->n_entries++;
	}
	return 0;
}

/* Attestations are listed like images, for a platform that nobody has. */
static bool is_image(const struct manifest_entry *e) {
	return e->any_platform || strcmp(e->platform.os, "unknown") != 0;
}

const struct manifest_entry *manifest_image(const struct manifest *index, size_t n) {
	for (size_t i = 0; n > 0 && i < index->n_entries; i++)
		if (is_image(&index->entries[i]) && --n == 0)
			return &index->entries[i];
	return NULL;
}

size_t manifest_images(const struct manifest *index) {
	size_t n = 0;
	for (size_t i = 0; i < index->n_entries; i++)
		n += is_image(&index->entries[i]);
	return n;
}

static void list_platforms(const struct manifest *index, char *out, size_t size) {
	size_t used = 0;
	out[0] = '\0';
	for (size_t i = 0; i < index->n_entries && used + 1 < size; i++) {
		char text[3 * PLATFORM_TEXT_MAX + 3];
		if (index->entries[i].any_platform || !is_image(&index->entries[i]))
			continue;
		platform_text(&index->entries[i].platform, text);
		used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", text);
	}
}

int manifest_choose(const struct manifest *index, const struct platform *wanted,
		    const struct manifest_entry **ret_entry, struct fault *fault) {
	const struct manifest_entry *best = NULL;
	int best_rank = 0;
	for (size_t i = 0; i < index->n_entries; i++) {
		const struct manifest_entry *e = &index->entries[i];
		/* Without a platform it may fit; its configuration will tell. */
		int rank = e->any_platform ? 1 : platform_rank(wanted, &e->platform) * 2;
		if (rank > best_rank) {
			best_rank = rank;
			best = e;
		}
	}
	if (!best) {
		char have[512], want[3 * PLATFORM_TEXT_MAX + 3];
		list_platforms(index, have, sizeof(have));
		platform_text(wanted, want);
		return fault_set(fault, FAULT_NOT_FOUND, "there is no image for %s, only for: %s", want,
				 have[0] ? have : "nothing");
	}
	*ret_entry = best;
	return 0;
}

/* --- image ----------------------------------------------------------------- */

static int check_layer(const Bulkhead__Descriptor *d, struct fault *fault) {
	switch (media_kind(d->media_type)) {
	case MEDIA_LAYER:
		return 0;
	case MEDIA_FOREIGN:
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "layer %s is of type \"%s\", which registries don't distribute; layers from elsewhere "
				 "are never fetched",
				 d->digest, d->media_type);
	default:
		return fault_set(fault, FAULT_UNIMPLEMENTED, "layer %s is of type \"%.100s\", which isn't supported",
				 d->digest, d->media_type);
	}
}

static int parse_image(const struct json *doc, struct arena *arena, struct manifest *m, struct fault *fault) {
	const struct json *list = json_get(doc, "layers");
	size_t n = json_length(list);
	m->config = arena_alloc(arena, sizeof(*m->config));
	m->layers = arena_zalloc(arena, (n + 1) * sizeof(*m->layers));
	if (!m->config || !m->layers)
		return no_memory(fault);
	int r = parse_descriptor(json_get(doc, "config"), "the image's config", arena, m->config, fault);
	if (r < 0)
		return r;
	if (media_kind(m->config->media_type) != MEDIA_CONFIG) {
		const char *type = json_text(doc, "artifactType");
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "it is an artifact of type \"%.100s\", not a container image",
				 type[0] ? type : m->config->media_type);
	}
	if (m->config->size > CONFIG_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED,
				 "the image's config has %llu bytes, at most %d are accepted",
				 (unsigned long long)m->config->size, CONFIG_MAX);
	if (!json_is_array(list) || n > LAYERS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the image must list at most %d layers, it has %zu",
				 LAYERS_MAX, n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		Bulkhead__Descriptor *d = m->layers[m->n_layers++] = arena_alloc(arena, sizeof(*d));
		if (!d)
			return no_memory(fault);
		r = parse_descriptor(json_at(list, i), "a layer", arena, d, fault);
		if (r == 0)
			r = check_layer(d, fault);
	}
	return r;
}

int manifest_parse(const void *data, size_t size, const char *media_type, struct arena *arena,
		   struct manifest *ret_manifest, struct fault *fault) {
	CLEANUP_JSON struct json *doc = NULL;
	struct manifest m = { 0 };
	int r = json_parse(data, size, &doc, fault);
	if (r < 0)
		return fault_prefix(fault, r, "the manifest");
	r = kind_of(doc, media_type, &m.kind, fault);
	if (r < 0)
		return r;
	m.media_type = arena_strdup(arena, default_type(json_text(doc, "mediaType"), media_type, m.kind));
	if (!m.media_type)
		return no_memory(fault);
	m.media_type[strcspn(m.media_type, "; ")] = '\0';
	r = m.kind == MANIFEST_INDEX ? parse_index(doc, arena, &m, fault) : parse_image(doc, arena, &m, fault);
	if (r == 0)
		*ret_manifest = m;
	return r;
}
