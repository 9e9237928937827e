#include "workers/api/containerd/export_archive.h"

#include "tar/write.h"
#include "workers/api/containerd/index_json.h"

#include <stdio.h>
#include <string.h>

#define PATH_SIZE 128

/* --- members ---------------------------------------------------------------- */

static void add_header(struct buffer *out, const char *name, uint64_t size) {
	const struct tar_member m = { .name = name, .type = '0', .mode = 0444, .size = size };
	struct tar_header h;
	tar_header_of(&m, &h);
	buffer_add(out, &h, sizeof(h));
}

void export_add_padding(struct buffer *out, uint64_t size) {
	static const char zeros[TAR_BLOCK_SIZE];
	buffer_add(out, zeros, (size_t)(-size % TAR_BLOCK_SIZE));
}

void export_add_end(struct buffer *out) {
	static const char end[2 * TAR_BLOCK_SIZE];
	buffer_add(out, end, sizeof(end));
}

static void add_file(struct buffer *out, const char *name, const struct buffer *data) {
	add_header(out, name, data->size);
	buffer_add(out, data->data, data->size);
	export_add_padding(out, data->size);
	out->failed |= data->failed;
}

static void blob_path(const char *digest, char ret_path[PATH_SIZE]) {
	snprintf(ret_path, PATH_SIZE, "blobs/sha256/%s", digest + strlen("sha256:"));
}

void export_add_blob(struct buffer *out, const struct export_blob *b) {
	char path[PATH_SIZE];
	blob_path(b->digest, path);
	add_header(out, path, b->size);
}

/* --- documents -------------------------------------------------------------- */

static void add_index(struct buffer *out, const struct export_set *set) {
	struct json j = { 0 };
	index_json_begin(&j);
	for (size_t i = 0; i < set->n_images; i++) {
		const struct export_image *x = &set->images[i];
		index_json_add(&j, x->media_type, x->target->digest, x->size, x->name);
	}
	index_json_end(&j);
	add_file(out, "index.json", &j.text);
	buffer_deinit(&j.text);
}

static void json_blob(struct json *j, const char *key, const char *digest) {
	char path[PATH_SIZE];
	blob_path(digest, path);
	json_text(j, key, path);
}

/* The manifest that a target is, or leads to first; NULL: none that is here. */
static const struct export_blob *manifest_of(const struct export_blob *target) {
	const struct export_blob *b = target;
	while (b && b->kind == EXPORT_INDEX)
		b = b->first;
	return b && b->n_parts > 0 ? b : NULL;
}

static void add_docker(struct json *j, const struct export_image *i, const struct export_blob *manifest) {
	json_open(j, NULL, '{');
	json_blob(j, "Config", manifest->parts[0]);
	json_open(j, "RepoTags", '[');
	json_text(j, NULL, i->name);
	json_close(j, ']');
	json_open(j, "Layers", '[');
	for (size_t k = 1; k < manifest->n_parts; k++)
		json_blob(j, NULL, manifest->parts[k]);
	json_close(j, ']');
	json_close(j, '}');
}

/* What docker reads. */
static void add_manifest(struct buffer *out, const struct export_set *set) {
	struct json j = { 0 };
	json_open(&j, NULL, '[');
	for (size_t i = 0; i < set->n_images; i++) {
		const struct export_blob *manifest = manifest_of(set->images[i].target);
		if (manifest)
			add_docker(&j, &set->images[i], manifest);
	}
	json_close(&j, ']');
	add_file(out, "manifest.json", &j.text);
	buffer_deinit(&j.text);
}

static void add_layout(struct buffer *out) {
	struct json j = { 0 };
	json_open(&j, NULL, '{');
	json_text(&j, "imageLayoutVersion", "1.0.0");
	json_close(&j, '}');
	add_file(out, "oci-layout", &j.text);
	buffer_deinit(&j.text);
}

void export_add_documents(struct buffer *out, const struct export_set *set, bool docker) {
	add_layout(out);
	add_index(out, set);
	if (docker)
		add_manifest(out, set);
}
