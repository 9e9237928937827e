#include "workers/api/containerd/small_blobs.h"

#include "base/buffer.h"

#include <string.h>

#define BLOBS_MAX 16
#define DIGEST_SIZE 136 /* sha512:, 128 digits */

struct small_blobs {
	uint64_t uses;
	struct small_blob {
		char digest[DIGEST_SIZE]; /* "": none */
		uint64_t used;
		struct buffer bytes;
	} blobs[BLOBS_MAX];
};

static struct small_blob *find(struct small_blobs *s, const char *digest) {
	for (size_t i = 0; i < BLOBS_MAX; i++)
		if (strcmp(s->blobs[i].digest, digest) == 0)
			return &s->blobs[i];
	return NULL;
}

static struct small_blob *oldest(struct small_blobs *s) {
	struct small_blob *o = &s->blobs[0];
	for (size_t i = 1; i < BLOBS_MAX; i++)
		if (s->blobs[i].used < o->used)
			o = &s->blobs[i];
	return o;
}

const struct buffer *small_blob_find(struct grpc_server *server, const char *digest) {
	struct small_blobs *s = server->small_blobs;
	struct small_blob *b = s && *digest ? find(s, digest) : NULL;
	if (!b)
		return NULL;
	b->used = ++s->uses;
	return &b->bytes;
}

void small_blob_keep(struct grpc_server *server, const char *digest, const uint8_t *data, size_t size) {
	if (size > SMALL_BLOB_MAX || strlen(digest) >= DIGEST_SIZE || small_blob_find(server, digest))
		return;
	if (!server->small_blobs && !(server->small_blobs = calloc(1, sizeof(*server->small_blobs))))
		return;
	struct small_blob *b = oldest(server->small_blobs);
	buffer_deinit(&b->bytes);
	buffer_add(&b->bytes, data, size);
	bool kept = !b->bytes.failed;
	strcpy(b->digest, kept ? digest : "");
	b->used = kept ? ++server->small_blobs->uses : 0;
}
