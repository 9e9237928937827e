#include "workers/snapshot/encode.h"

#include "base/fd.h"
#include "workers/snapshot/decode/internal.h"

#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#define IN_SIZE (256 * 1024)
#define OUT_SIZE (256 * 1024)
#define ZSTD_LEVEL 3

struct encoder {
	int to;
	struct digest *in, *out;
	uint64_t size;
	struct isal_zstream gzip;
	uint8_t *level; /* igzip's working memory */
	ZSTD_CCtx *zstd;
	uint8_t in_buffer[IN_SIZE], out_buffer[OUT_SIZE];
};

static int put(struct encoder *e, const void *data, size_t size) {
	e->size += size;
	int r = digest_add(e->out, data, size);
	return r < 0 ? r : fd_write_all(e->to, data, size);
}

/* --- formats: each writes what comes of these bytes; last: there are no more --- */

static int plain_step(struct encoder *e, size_t size, bool last) {
	return put(e, e->in_buffer, size);
}

static int gzip_begin(struct encoder *e) {
	isal_deflate_init(&e->gzip);
	e->level = malloc(ISAL_DEF_LVL2_DEFAULT);
	e->gzip.level = 2;
	e->gzip.level_buf = e->level;
	e->gzip.level_buf_size = ISAL_DEF_LVL2_DEFAULT;
	e->gzip.gzip_flag = IGZIP_GZIP;
	return e->level ? 0 : -ENOMEM;
}

static int gzip_step(struct encoder *e, size_t size, bool last) {
	e->gzip.next_in = e->in_buffer;
	e->gzip.avail_in = (uint32_t)size;
	e->gzip.end_of_stream = last;
	do {
		e->gzip.next_out = e->out_buffer;
		e->gzip.avail_out = OUT_SIZE;
		if (isal_deflate(&e->gzip) != COMP_OK)
			return -EIO;
		int r = put(e, e->out_buffer, OUT_SIZE - e->gzip.avail_out);
		if (r < 0)
			return r;
	} while (e->gzip.avail_out == 0);
	return 0;
}

static int zstd_begin(struct encoder *e) {
	e->zstd = ZSTD_createCCtx();
	if (!e->zstd)
		return -ENOMEM;
	size_t r = ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
	return ZSTD_isError(r) ? -EINVAL : 0;
}

static int zstd_step(struct encoder *e, size_t size, bool last) {
	ZSTD_inBuffer in = { e->in_buffer, size, 0 };
	for (;;) {
		ZSTD_outBuffer out = { e->out_buffer, OUT_SIZE, 0 };
		size_t left = ZSTD_compressStream2(e->zstd, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return -EIO;
		int r = put(e, e->out_buffer, out.pos);
		if (r < 0)
			return r;
		if (last ? left == 0 : in.pos == in.size)
			return 0;
	}
}

static const struct format {
	int (*begin)(struct encoder *e);
	int (*step)(struct encoder *e, size_t size, bool last);
} formats[] = {
	[ENCODING_NONE] = { NULL, plain_step },
	[ENCODING_GZIP] = { gzip_begin, gzip_step },
	[ENCODING_ZSTD] = { zstd_begin, zstd_step },
};

/* --- the whole -------------------------------------------------------------- */

/* A file that is shorter than it said counts as zeros, as holes do. */
static int in_read(struct encoder *e, int from, uint64_t at, size_t size) {
	for (size_t have = 0; have < size;) {
		ssize_t n = pread(from, e->in_buffer + have, size - have, (off_t)(at + have));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			memset(e->in_buffer + have, 0, size - have);
			break;
		}
		have += (size_t)n;
	}
	return digest_add(e->in, e->in_buffer, size);
}

static int all(struct encoder *e, int from, uint64_t size, const struct format *f) {
	int r = f->begin ? f->begin(e) : 0;
	uint64_t at = 0;
	do {
		size_t n = (size_t)MIN(size - at, (uint64_t)IN_SIZE);
		if (r == 0)
			r = in_read(e, from, at, n);
		at += n;
		if (r == 0)
			r = f->step(e, n, at == size);
	} while (r == 0 && at < size);
	return r;
}

static void encoder_free(struct encoder *e) {
	digest_free(e->in);
	digest_free(e->out);
	ZSTD_freeCCtx(e->zstd);
	free(e->level);
	free(e);
}

int encode_file(int from, uint64_t size, int to, enum encoding encoding, struct encode_result *ret_result,
		struct fault *fault) {
	struct encode_result result;
	struct encoder *e = calloc(1, sizeof(*e));
	if (!e)
		return fault_errno(fault, ENOMEM, "write the layer");
	e->to = to;
	e->in = digest_new();
	e->out = digest_new();
	int r = e->in && e->out ? all(e, from, size, &formats[encoding]) : -ENOMEM;
	result.size = e->size;
	if (r == 0)
		r = digest_end(e->out, result.digest);
	if (r == 0)
		r = digest_end(e->in, result.diff_id);
	encoder_free(e);
	if (r < 0)
		return fault_errno(fault, r, "write the layer");
	*ret_result = result;
	return 0;
}
