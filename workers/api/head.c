#include "workers/api/head.h"

#include <string.h>

static const char *const pseudo_names[] = { ":method", ":scheme", ":path", ":authority" };
#define PSEUDO_METHOD 0x1
#define PSEUDO_SCHEME 0x2
#define PSEUDO_PATH 0x4
#define PSEUDO_REQUIRED (PSEUDO_METHOD | PSEUDO_SCHEME | PSEUDO_PATH)

void head_reset(struct head *h) {
	h->bytes.size = 0;
	h->n_fields = h->cost = 0;
	h->regular = false;
	h->seen = 0;
	h->verdict = HEAD_OK;
}

void head_deinit(struct head *h) {
	buffer_deinit(&h->bytes);
}

/* RFC 9110's token, without upper case. */
static bool name_valid(const uint8_t *name, size_t size) {
	static const char others[] = "!#$%&'*+-.^_`|~";
	for (size_t i = 0; i < size; i++) {
		uint8_t c = name[i];
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr(others, c))))
			return false;
	}
	return size > 0;
}

static bool value_valid(const uint8_t *value, size_t size) {
	for (size_t i = 0; i < size; i++)
		if ((value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
			return false;
	return true;
}

static bool pseudo_valid(struct head *h, const uint8_t *name, size_t size) {
	for (size_t i = 0; i < ARRAY_SIZE(pseudo_names); i++)
		if (size == strlen(pseudo_names[i]) && memcmp(name, pseudo_names[i], size) == 0) {
			bool first = !(h->seen & 1u << i);
			h->seen |= 1u << i;
			return first && !h->regular;
		}
	return false;
}

static uint16_t copy(struct head *h, const uint8_t *data, size_t size) {
	size_t at = h->bytes.size;
	buffer_add(&h->bytes, data, size);
	buffer_add(&h->bytes, "", 1);
	return (uint16_t)at;
}

void head_add(struct head *h, const uint8_t *name, size_t name_size, const uint8_t *value, size_t value_size) {
	if (h->verdict != HEAD_OK)
		return;
	h->cost += name_size + value_size + HEAD_FIELD_COST;
	if (h->cost > HEAD_SIZE_MAX || h->n_fields == HEAD_FIELDS_MAX) {
		h->verdict = HEAD_TOO_LARGE;
		return;
	}
	bool pseudo = name_size > 0 && name[0] == ':';
	if (pseudo ? !pseudo_valid(h, name, name_size) : !name_valid(name, name_size)) {
		h->verdict = HEAD_MALFORMED;
		return;
	}
	h->regular |= !pseudo;
	if (!value_valid(value, value_size)) {
		h->verdict = HEAD_MALFORMED;
		return;
	}
	h->fields[h->n_fields].name = copy(h, name, name_size);
	h->fields[h->n_fields].value = copy(h, value, value_size);
	h->n_fields++;
}

enum head_verdict head_finish(struct head *h) {
	if (h->bytes.failed) {
		buffer_deinit(&h->bytes);
		h->n_fields = 0;
		h->verdict = HEAD_TOO_LARGE;
	}
	if (h->verdict == HEAD_OK && (h->seen & PSEUDO_REQUIRED) != PSEUDO_REQUIRED)
		h->verdict = HEAD_MALFORMED;
	return h->verdict;
}

const char *head_get(const struct head *h, const char *name) {
	const char *bytes = (const char *)h->bytes.data;
	for (size_t i = 0; i < h->n_fields; i++)
		if (strcmp(bytes + h->fields[i].name, name) == 0)
			return bytes + h->fields[i].value;
	return NULL;
}
