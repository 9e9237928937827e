/* UTF-8 as others check it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* How many bytes the character at p has, of the left ones; 0 when it is none. Behind a NUL nothing is looked at. */
static inline unsigned utf8_length(const void *p, size_t left) {
	const unsigned char *b = p;
	unsigned n = b[0] < 0x80 ? 1 : b[0] < 0xc2 ? 0 : b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : b[0] < 0xf5 ? 4 : 0;
	if (n > left)
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] >= 0xa0) || (b[0] == 0xf0 && b[1] < 0x90) ||
	    (b[0] == 0xf4 && b[1] >= 0x90))
		return 0;
	return n;
}

/* Text without a NUL in it. */
static inline bool utf8_valid(const void *p, size_t size) {
	const unsigned char *b = p; /* NULL when there is nothing */
	while (size > 0) {
		unsigned n = utf8_length(b, size);
		if (n == 0 || *b == '\0')
			return false;
		b += n;
		size -= n;
	}
	return true;
}
