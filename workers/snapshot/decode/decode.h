/*
 * The bytes of a layer as transferred (gzip, zstd or plain tar, told by their
 * first bytes) as a stream of the uncompressed archive, with the digest of all
 * of it: the diff id. For the jailed unpacker; it blocks on its descriptor.
 *
 * What follows the compressed data is ignored, as tar and gzip do; the digest
 * says whether the layer is the right one.
 */
#pragma once

#include "tar/stream.h"

#include <stdbool.h>
#include <stddef.h>

/* Against archives that grow without end; 0: no limit. */
struct decode_limits {
	uint64_t size;	/* uncompressed bytes */
	uint64_t ratio; /* uncompressed to transferred, judged beyond ratio_from bytes */
	uint64_t ratio_from;
};

struct decoder;

/* fd stays the caller's. */
int decoder_new(int fd, const struct decode_limits *limits, struct decoder **ret_decoder) NODISCARD;
void decoder_free(struct decoder *d);
static inline void decoder_free_p(struct decoder **d) {
	decoder_free(*d);
}
struct stream *decoder_stream(struct decoder *d);
/* "gzip", "zstd" or "plain"; NULL before the first bytes. */
const char *decoder_format(const struct decoder *d);
/* Bytes of the uncompressed archive so far. */
uint64_t decoder_size(const struct decoder *d);
/* Reads what is left and gives "sha256:<hex>" of everything. */
int decoder_finish(struct decoder *d, char ret_digest[72], struct fault *fault) NODISCARD;
