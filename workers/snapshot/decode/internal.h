/* Between the decoder and its formats, each of which knows one library. */
#pragma once

#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Input that was read and not used yet, and room for output. */
struct decode_step {
	const uint8_t *in;
	size_t in_left;
	uint8_t *out;
	size_t out_left;
	bool finished; /* the data ended; what follows is ignored */
};

struct decode_format {
	const char *name;
	void *(*new)(void);
	void (*free)(void *state);
	/* Uses input and fills output as far as either goes. */
	int (*step)(void *state, struct decode_step *s, struct fault *fault);
	/* At the end of the input: whether it may end here. */
	bool (*complete)(void *state);
};

extern const struct decode_format decode_gzip, decode_zstd;

/* SHA-256 of a stream. */
struct digest;
struct digest *digest_new(void);
void digest_free(struct digest *d);
int digest_add(struct digest *d, const void *data, size_t size);
int digest_end(struct digest *d, char ret_text[72]);
