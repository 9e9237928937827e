/*
 * From an archive in a file to a layer as it is transferred: compressed or not,
 * with the digests of both. Blocks; for children.
 */
#pragma once

#include "base/fault.h"

#include <stdint.h>

enum encoding { ENCODING_NONE, ENCODING_GZIP, ENCODING_ZSTD };

struct encode_result {
	char digest[72]; /* of what was written */
	uint64_t size;
	char diff_id[72]; /* of what was read */
};

/* Reads from up to size, from its beginning, and writes into to. The same bytes
 * give the same bytes, on any machine with the same libraries. */
int encode_file(int from, uint64_t size, int to, enum encoding encoding, struct encode_result *ret_result,
		struct fault *fault) NODISCARD;
