#include "workers/api/containerd/archive_index.h"

#include "base/id.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "workers/api/containerd/json_read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LAYERS_MAX 512
#define NAME_MAX_LENGTH 1024
#define DOCKER "application/vnd.docker."
#define MANIFEST DOCKER "distribution.manifest.v2+json"

struct reading {
	struct arena *arena;
	archive_find_fn find;
	void *ctx;
	struct archive_images *images;
	struct fault *fault;
};

void archive_images_deinit(struct archive_images *i) {
	for (size_t k = 0; k < i->n; k++)
		buffer_deinit(&i->v[k].document);
	*i = (struct archive_images){ 0 };
}

static int no_memory(struct reading *r) {
	return fault_set(r->fault, FAULT_RESOURCE_EXHAUSTED, "import: out of memory");
}

static json_object *parse(const struct buffer *json, const char *what, struct fault *fault) {
	/* Its texts go to the metadata worker, which ends who sends it what isn't. */
	if (!utf8_valid(json->data, json->size)) {
		fault_set(fault, FAULT_INVALID_ARGUMENT, "import: %s isn't UTF-8", what);
		return NULL;
	}
	const char *why;
	json_object *o = json_read(json, &why);
	if (!o)
		fault_set(fault, FAULT_INVALID_ARGUMENT, "import: %s: %s", what, why);
	return o;
}

/* NULL: it is none, or has no place in a name or a path. */
static const char *text_of(json_object *o) {
	const char *s = json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;
	size_t n = s ? (size_t)json_object_get_string_len(o) : 0;
	return n > 0 && n <= NAME_MAX_LENGTH && strlen(s) == n ? s : NULL;
}

static const char *text(json_object *o, const char *key) {
	return text_of(json_read_member(o, key, json_type_string));
}

static size_t length(json_object *array) {
	return array ? json_object_array_length(array) : 0;
}

/* NULL: the fault says why. */
static struct archive_image *add(struct reading *r) {
	struct archive_images *i = r->images;
	if (!i->v)
		i->v = arena_zalloc(r->arena, ARCHIVE_IMAGES_MAX * sizeof(*i->v));
	if (!i->v) {
		no_memory(r);
		return NULL;
	}
	if (i->n == ARCHIVE_IMAGES_MAX) {
		fault_set(r->fault, FAULT_INVALID_ARGUMENT, "import: there are more than %d images in the archive",
			  ARCHIVE_IMAGES_MAX);
		return NULL;
	}
	struct archive_image *made = &i->v[i->n++];
	bulkhead__descriptor__init(&made->target);
	return made;
}

/* --- of an OCI image layout ------------------------------------------------- */

static int add_entry(struct reading *r, json_object *entry) {
	const char *digest = text(entry, "digest"), *type = text(entry, "mediaType");
	json_object *notes = json_read_member(entry, "annotations", json_type_object);
	const char *name = text(notes, "io.containerd.image.name");
	const char *ref = text(notes, "org.opencontainers.image.ref.name");
	char path[128];
	if (!digest || !digest_valid(digest) || !type)
		return fault_set(r->fault, FAULT_INVALID_ARGUMENT,
				 "import: index.json: an image has no sha256 digest, or no media type");
	snprintf(path, sizeof(path), "blobs/sha256/%s", digest + strlen("sha256:"));
	const struct archive_blob *b = r->find(r->ctx, path);
	if (!b)
		return fault_set(r->fault, FAULT_NOT_FOUND,
				 "import: the archive has no blob %s, which index.json names", digest);
	struct archive_image *i = add(r);
	if (!i)
		return -EINVAL;
	/* Some write whole names there. */
	bool whole = !name && ref && strpbrk(ref, "/:@");
	i->target.digest = arena_strdup(r->arena, digest);
	i->target.media_type = arena_strdup(r->arena, type);
	i->target.size = b->size;
	i->name = name || whole ? arena_strdup(r->arena, name ? name : ref) : NULL;
	i->ref = ref && !whole ? arena_strdup(r->arena, ref) : NULL;
	return i->target.digest && i->target.media_type ? 0 : no_memory(r);
}

int archive_index_read(struct arena *a, const struct buffer *json, archive_find_fn find, void *ctx,
		       struct archive_images *ret_images, struct fault *fault) {
	struct reading r = { .arena = a, .find = find, .ctx = ctx, .images = ret_images, .fault = fault };
	CLEANUP_JSON json_object *o = parse(json, "index.json", fault);
	if (!o)
		return -EINVAL;
	json_object *manifests = json_read_member(o, "manifests", json_type_array);
	int e = 0;
	for (size_t i = 0; e == 0 && i < length(manifests); i++)
		e = add_entry(&r, json_object_array_get_idx(manifests, i));
	return e;
}

/* --- of docker -------------------------------------------------------------- */

/* "alpine:3" is docker's short form. */
static const char *full_name(struct arena *a, const char *tag) {
	size_t n = strcspn(tag, "/");
	if (!tag[n])
		return arena_printf(a, "docker.io/library/%s", tag);
	bool host = memchr(tag, '.', n) || memchr(tag, ':', n) || strncmp(tag, "localhost/", n + 1) == 0;
	return host ? arena_strdup(a, tag) : arena_printf(a, "docker.io/%s", tag);
}

/* Nothing in it is the archive's own text, so nothing needs quoting. */
static int add_descriptor(struct reading *r, struct buffer *out, const char *path, const char *type) {
	const struct archive_blob *b = path ? r->find(r->ctx, path) : NULL;
	if (!b)
		return fault_set(r->fault, FAULT_NOT_FOUND,
				 "import: the archive has no \"%.200s\", which manifest.json names", path ? path : "");
	buffer_addf(out, "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%llu}", type ? type : b->media_type,
		    b->digest, (unsigned long long)b->size);
	return 0;
}

/* Its manifest, which docker keeps to itself. */
static int make_manifest(struct reading *r, json_object *entry, struct buffer *out) {
	json_object *layers = json_read_member(entry, "Layers", json_type_array);
	if (length(layers) > LAYERS_MAX)
		return fault_set(r->fault, FAULT_INVALID_ARGUMENT,
				 "import: manifest.json: an image has more than %d layers", LAYERS_MAX);
	buffer_addf(out, "{\"schemaVersion\":2,\"mediaType\":\"%s\",\"config\":", MANIFEST);
	int e = add_descriptor(r, out, text(entry, "Config"), DOCKER "container.image.v1+json");
	buffer_addf(out, ",\"layers\":[");
	for (size_t i = 0; e == 0 && i < length(layers); i++) {
		buffer_addf(out, "%s", i > 0 ? "," : "");
		e = add_descriptor(r, out, text_of(json_object_array_get_idx(layers, i)), NULL);
	}
	buffer_addf(out, "]}");
	return e < 0 || !out->failed ? e : no_memory(r);
}

static int add_tag(struct reading *r, const char *tag, const struct buffer *manifest) {
	char digest[DIGEST_SIZE];
	struct archive_image *i = add(r);
	if (!i)
		return -EINVAL;
	sha256_digest(manifest->data, manifest->size, digest);
	buffer_add(&i->document, manifest->data, manifest->size);
	i->name = tag ? full_name(r->arena, tag) : NULL;
	i->target.media_type = (char *)MANIFEST;
	i->target.digest = arena_strdup(r->arena, digest);
	i->target.size = manifest->size;
	return i->target.digest && !i->document.failed ? 0 : no_memory(r);
}

static int add_docker(struct reading *r, json_object *entry) {
	CLEANUP_BUFFER struct buffer manifest = { 0 };
	json_object *tags = json_read_member(entry, "RepoTags", json_type_array);
	int e = make_manifest(r, entry, &manifest);
	for (size_t i = 0; e == 0 && i < length(tags); i++)
		e = add_tag(r, text_of(json_object_array_get_idx(tags, i)), &manifest);
	if (e == 0 && length(tags) == 0)
		e = add_tag(r, NULL, &manifest);
	return e;
}

int archive_docker_read(struct arena *a, const struct buffer *json, archive_find_fn find, void *ctx,
			struct archive_images *ret_images, struct fault *fault) {
	struct reading r = { .arena = a, .find = find, .ctx = ctx, .images = ret_images, .fault = fault };
	CLEANUP_JSON json_object *o = parse(json, "manifest.json", fault);
	if (!o)
		return -EINVAL;
	json_object *list = json_object_is_type(o, json_type_array) ? o : NULL;
	int e = 0;
	for (size_t i = 0; e == 0 && i < length(list); i++)
		e = add_docker(&r, json_object_array_get_idx(list, i));
	return e;
}
