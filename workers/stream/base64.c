#include "workers/stream/base64.h"

#include <errno.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *data, size_t size, char *ret_text) {
	const uint8_t *p = data;
	for (; size > 0; ret_text += 4) {
		size_t n = MIN(size, (size_t)3);
		uint32_t bits = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
		for (size_t i = 0; i < 4; i++)
			ret_text[i] = i <= n ? alphabet[bits >> (18 - 6 * i) & 63] : '=';
		p += n;
		size -= n;
	}
}

static int value_of(char c) {
	const char *p = c ? strchr(alphabet, c) : NULL;
	return p ? (int)(p - alphabet) : -1;
}

/* One character; the number of bytes that it completes, or -EBADMSG. */
static int decode_char(struct base64 *b, char c, uint8_t *ret_data) {
	int v = value_of(c);
	if (c == '=' && b->n >= 2)
		b->padding++;
	else if (v < 0 || b->padding)
		return -EBADMSG;
	b->bits = b->bits << 6 | (v < 0 ? 0 : (uint32_t)v);
	if (++b->n < 4)
		return 0;
	int n = 3 - (int)b->padding;
	for (int i = 0; i < n; i++)
		ret_data[i] = (uint8_t)(b->bits >> (16 - 8 * i));
	b->n = 0;
	b->bits = 0;
	return n;
}

ssize_t base64_decode(struct base64 *b, const void *text, size_t size, uint8_t *ret_data) {
	ssize_t total = 0;
	for (size_t i = 0; i < size; i++) {
		int n = decode_char(b, ((const char *)text)[i], ret_data + total);
		if (n < 0)
			return n;
		total += n;
	}
	return total;
}
