#include "tar/header.h"

#include <string.h>

bool tar_block_is_zero(const uint8_t *block) {
	return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK_SIZE - 1) == 0;
}

bool tar_number(const char *field, size_t size, int64_t *ret_value) {
	const uint8_t *p = (const uint8_t *)field, *end = p + size;

	if (*p & 0x80) { /* GNU: two's complement, big endian, top bit is the mark */
		int64_t v = (*p & 0x40) ? -1 : 0;
		v = (int64_t)((uint64_t)v << 6) | (*p & 0x3f);
		for (p++; p < end; p++) {
			if (v > INT64_MAX >> 8 || v < INT64_MIN >> 8)
				return false;
			v = (int64_t)((uint64_t)v << 8) | *p;
		}
		*ret_value = v;
		return true;
	}
	while (p < end && *p == ' ')
		p++;
	int64_t v = 0;
	for (; p < end && *p != '\0' && *p != ' '; p++) {
		if (*p < '0' || *p > '7' || v > INT64_MAX >> 3)
			return false;
		v = v << 3 | (*p - '0');
	}
	*ret_value = v;
	return true;
}

bool tar_header_valid(const struct tar_header *h) {
	const uint8_t *bytes = (const uint8_t *)h;
	const size_t at = offsetof(struct tar_header, checksum);
	int64_t want, sum = 0, sum_signed = 0;

	if (!tar_number(h->checksum, sizeof(h->checksum), &want))
		return false;
	for (size_t i = 0; i < TAR_BLOCK_SIZE; i++) {
		uint8_t b = i >= at && i < at + sizeof(h->checksum) ? ' ' : bytes[i];
		sum += b;
		sum_signed += (int8_t)b;
	}
	return want == sum || want == sum_signed;
}

static bool is_posix(const struct tar_header *h) {
	return memcmp(h->magic, "ustar\0", 6) == 0;
}

bool tar_header_is_extra(const struct tar_header *h) {
	return h->type && strchr("LKxXgV", h->type);
}

void tar_header_name(const struct tar_header *h, char *out) {
	size_t n = 0;
	if (is_posix(h) && h->prefix[0]) {
		n = strnlen(h->prefix, sizeof(h->prefix));
		memcpy(out, h->prefix, n);
		out[n++] = '/';
	}
	size_t name = strnlen(h->name, sizeof(h->name));
	memcpy(out + n, h->name, name);
	out[n + name] = '\0';
}
