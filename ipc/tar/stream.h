/* Where an archive's bytes come from: a decoder over a pipe, or memory. */
#pragma once

#include "base/fault.h"

#include <stdint.h>
#include <sys/types.h>

struct stream {
	/* The next bytes, at least one; 0 at the end, or a negative errno with
	 * the fault set. They stay valid until the next call. */
	ssize_t (*next)(struct stream *s, const uint8_t **ret_data, struct fault *fault);
};
