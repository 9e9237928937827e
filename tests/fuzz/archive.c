#include "tests/fuzz/archive.h"

#include "base/macros.h"
#include "tar/header.h"

#include <stdio.h>
#include <string.h>

static ssize_t pieces_next(struct stream *stream, const uint8_t **ret_data, struct fault *fault) {
	struct pieces *p = container_of(stream, struct pieces, stream);
	size_t n = MIN(p->piece, p->left);
	*ret_data = p->data;
	p->data += n;
	p->left -= n;
	return (ssize_t)n;
}

struct pieces pieces_of(const uint8_t *data, size_t size, size_t piece) {
	return (struct pieces){ .stream = { pieces_next }, .data = data, .left = size, .piece = piece };
}

static void checksum_set(struct tar_header *h) {
	unsigned sum = 0;
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += ((uint8_t *)h)[i];
	snprintf(h->checksum, sizeof(h->checksum), "%06o", sum);
}

void archive_checksums_repair(uint8_t *data, size_t size) {
	for (; size >= TAR_BLOCK_SIZE; data += TAR_BLOCK_SIZE, size -= TAR_BLOCK_SIZE) {
		struct tar_header h;
		memcpy(&h, data, sizeof(h));
		if (memcmp(h.magic, "ustar", 5) != 0)
			continue;
		checksum_set(&h);
		memcpy(data, &h, sizeof(h));
	}
}
