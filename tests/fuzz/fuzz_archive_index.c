/*
 * The documents of a client's archive: index.json, or docker's manifest.json.
 * The first byte says which, the rest is its text. Every file is in the archive
 * unless its name begins with "no".
 *
 * Invariants beyond the sanitisers': a refusal has a sentence; texts can go to
 * the metadata worker, which ends who sends it what isn't UTF-8; targets have
 * digests, and those made here are of documents that are JSON.
 */
#include "tests/fuzz/fuzz.h"

#include "base/id.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "workers/api/containerd/archive_index.h"

#include <json-c/json.h>
#include <string.h>

static const struct archive_blob *find(void *ctx, const char *path) {
	static const struct archive_blob blob = {
		.digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		.media_type = "application/vnd.docker.image.rootfs.diff.tar",
		.size = 7,
	};
	require(path != NULL);
	return strncmp(path, "no", 2) == 0 ? NULL : &blob;
}

static void check_text(const char *s) {
	require(!s || (*s && utf8_valid(s, strlen(s))));
}

static void check_document(const struct archive_image *i) {
	char digest[DIGEST_SIZE];
	sha256_digest(i->document.data, i->document.size, digest);
	require(strcmp(digest, i->target.digest) == 0 && i->target.size == i->document.size);
	struct json_tokener *t = json_tokener_new();
	json_object *o = json_tokener_parse_ex(t, (const char *)i->document.data, (int)i->document.size);
	require(o != NULL);
	json_object_put(o);
	json_tokener_free(t);
}

static void check(const struct archive_image *i) {
	check_text(i->name);
	check_text(i->ref);
	check_text(i->target.media_type);
	require(digest_valid(i->target.digest) && *i->target.media_type);
	if (i->document.size > 0)
		check_document(i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct archive_images images = { 0 };
	struct fault fault = { 0 };
	struct arena arena;
	if (size == 0)
		return 0;
	struct buffer json = { .data = (uint8_t *)(uintptr_t)data + 1, .size = size - 1 };
	arena_init(&arena, 0);
	int r = data[0] % 2 ? archive_docker_read(&arena, &json, find, NULL, &images, &fault)
			    : archive_index_read(&arena, &json, find, NULL, &images, &fault);
	require(r == 0 || (fault.code != FAULT_NONE && fault.text[0]));
	require(images.n <= ARCHIVE_IMAGES_MAX);
	for (size_t i = 0; r == 0 && i < images.n; i++)
		check(&images.v[i]);
	archive_images_deinit(&images);
	arena_deinit(&arena);
	return 0;
}
