/* gzip by ISA-L; several members in a row are one file. */
#include "workers/snapshot/decode/internal.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdlib.h>

struct gzip {
	struct inflate_state inflate;
	bool between; /* a member ended; the next one may begin */
	unsigned members;
};

static void *gzip_new(void) {
	struct gzip *g = malloc(sizeof(*g));
	if (!g)
		return NULL;
	isal_inflate_init(&g->inflate);
	g->inflate.crc_flag = ISAL_GZIP;
	g->between = true;
	g->members = 0;
	return g;
}

static int gzip_step(void *state, struct decode_step *s, struct fault *fault) {
	struct gzip *g = state;

	if (g->between) {
		if (s->in_left == 0)
			return 0;
		if (g->members && s->in[0] != 0x1f) {
			s->finished = true;
			return 0;
		}
		isal_inflate_reset(&g->inflate);
		g->inflate.crc_flag = ISAL_GZIP;
		g->between = false;
		g->members++;
	}
	struct inflate_state *z = &g->inflate;
	z->next_in = (uint8_t *)s->in;
	z->avail_in = (uint32_t)s->in_left;
	z->next_out = s->out;
	z->avail_out = (uint32_t)s->out_left;
	int r = isal_inflate(z);
	s->in = z->next_in;
	s->in_left = z->avail_in;
	s->out = z->next_out;
	s->out_left = z->avail_out;
	if (r == ISAL_INVALID_WRAPPER && g->members > 1) {
		s->finished = true; /* garbage that began like a member */
		return 0;
	}
	if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT)
		return fault_set(fault, FAULT_DATA_LOSS, "the gzip data is damaged%s",
				 r == ISAL_INCORRECT_CHECKSUM ? " (its checksum doesn't fit)" : "");
	if (z->block_state == ISAL_BLOCK_FINISH)
		g->between = true;
	return 0;
}

static bool gzip_complete(void *state) {
	struct gzip *g = state;
	return g->between && g->members > 0;
}

const struct decode_format decode_gzip = {
	.name = "gzip",
	.new = gzip_new,
	.free = free,
	.step = gzip_step,
	.complete = gzip_complete,
};
