#include "workers/stream/sha1.h"

#include <string.h>

#define BLOCK 64

static uint32_t rotate(uint32_t x, unsigned n) {
	return x << n | x >> (32 - n);
}

static void block(uint32_t h[5], const uint8_t *p) {
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 |
		       p[4 * i + 3];
	for (int i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (int i = 0; i < 80; i++) {
		uint32_t f, k;
		if (i < 20)
			f = (b & c) | (~b & d), k = 0x5a827999;
		else if (i < 40)
			f = b ^ c ^ d, k = 0x6ed9eba1;
		else if (i < 60)
			f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
		else
			f = b ^ c ^ d, k = 0xca62c1d6;
		uint32_t t = rotate(a, 5) + f + e + k + w[i];
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = t;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

void sha1(const void *data, size_t size, uint8_t ret_digest[SHA1_SIZE]) {
	uint32_t h[5] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 };
	uint8_t padded[2 * BLOCK] = { 0 };
	if (size > sizeof(padded) - 9)
		size = sizeof(padded) - 9;
	memcpy(padded, data, size);
	padded[size] = 0x80;
	size_t end = size + 9 <= BLOCK ? BLOCK : 2 * BLOCK;
	padded[end - 2] = (uint8_t)(size * 8 >> 8);
	padded[end - 1] = (uint8_t)(size * 8);
	for (size_t at = 0; at < end; at += BLOCK)
		block(h, padded + at);
	for (int i = 0; i < SHA1_SIZE; i++)
		ret_digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}
