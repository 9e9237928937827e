/* What the harnesses of archives share: mutated ones that are read on, and a stream of given pieces. */
#pragma once

#include "tar/stream.h"

#include <stdint.h>

struct pieces {
	struct stream stream;
	const uint8_t *data;
	size_t left, piece;
};

/* The data must outlive it; piece isn't 0. */
struct pieces pieces_of(const uint8_t *data, size_t size, size_t piece);
/* What looks like a header gets its checksum, or few mutations would be read. */
void archive_checksums_repair(uint8_t *data, size_t size);
