/* zstd by libzstd; several frames in a row are one file. The window is bounded
 * by the library's default for streams, 128 MiB. */
#include "workers/snapshot/decode/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

struct zstd {
	ZSTD_DStream *stream;
	bool between; /* a frame ended */
	unsigned frames;
};

static void zstd_free(void *state) {
	struct zstd *z = state;
	if (!z)
		return;
	ZSTD_freeDStream(z->stream);
	free(z);
}

static void *zstd_new(void) {
	struct zstd *z = calloc(1, sizeof(*z));
	if (!z)
		return NULL;
	z->stream = ZSTD_createDStream();
	if (!z->stream || ZSTD_isError(ZSTD_initDStream(z->stream))) {
		zstd_free(z);
		return NULL;
	}
	z->between = true;
	return z;
}

static int zstd_step(void *state, struct decode_step *s, struct fault *fault) {
	struct zstd *z = state;
	if (z->between && s->in_left == 0)
		return 0;
	ZSTD_inBuffer in = { s->in, s->in_left, 0 };
	ZSTD_outBuffer out = { s->out, s->out_left, 0 };
	size_t r = ZSTD_decompressStream(z->stream, &out, &in);
	if (ZSTD_isError(r)) {
		if (z->between && z->frames && ZSTD_getErrorCode(r) == ZSTD_error_prefix_unknown) {
			s->finished = true;
			return 0;
		}
		return fault_set(fault, FAULT_DATA_LOSS, "the zstd data is damaged: %s", ZSTD_getErrorName(r));
	}
	s->in += in.pos;
	s->in_left -= in.pos;
	s->out += out.pos;
	s->out_left -= out.pos;
	z->between = r == 0;
	z->frames += z->between;
	return 0;
}

static bool zstd_complete(void *state) {
	struct zstd *z = state;
	return z->between && z->frames > 0;
}

const struct decode_format decode_zstd = {
	.name = "zstd",
	.new = zstd_new,
	.free = zstd_free,
	.step = zstd_step,
	.complete = zstd_complete,
};
