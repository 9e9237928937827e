/* Base64 as the WebSocket protocols with "base64" in their names use it. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

#define BASE64_SIZE(n) (((n) + 2) / 3 * 4)

/* Writes BASE64_SIZE(size) characters, no NUL. */
void base64_encode(const void *data, size_t size, char *ret_text);

/* Text that comes in pieces; zero-initialised at its beginning. */
struct base64 {
	uint32_t bits;
	unsigned n; /* characters of the present four */
	unsigned padding;
};
/* Room for size / 4 * 3 + 3 bytes. The number of bytes, or -EBADMSG. */
ssize_t base64_decode(struct base64 *b, const void *text, size_t size, uint8_t *ret_data) NODISCARD;
