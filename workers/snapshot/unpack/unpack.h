/* What the unpacking child does: enter the jail, decode, extract, compare the
 * digest, write the report. */
#pragma once

#include "workers/snapshot/decode/decode.h"
#include "workers/snapshot/unpack/extract.h"

struct unpack_job {
	int input;	  /* the pipe with the layer as transferred */
	int tree;	  /* the empty folder to fill */
	int report;	  /* the file to write the report to */
	char diff_id[72]; /* what it must be; empty: anything */
	struct decode_limits decode;
	struct extract_limits extract;
};

/* Generous for real images, small beside what a bomb wants. A gzip stream
 * can't exceed 1032 to 1; the ratio is for zstd. */
#define UNPACK_SIZE_MAX (UINT64_C(256) << 30)
#define UNPACK_RATIO_MAX 1100
#define UNPACK_RATIO_FROM (UINT64_C(1) << 30)
#define UNPACK_ENTRIES_MAX 8000000

struct unpack_result {
	struct extract_result extract;
	char diff_id[72];
	uint64_t size; /* of the uncompressed archive */
};

/* Only for a process that ends afterwards. */
int unpack_run(const struct unpack_job *job, struct unpack_result *ret_result, struct fault *fault) NODISCARD;
