/*
 * The header fields of one request, as they arrive, and whether they make a
 * request at all. nghttp2's own checks are off because they refuse
 * the :authority that several gRPC clients send on a unix socket (a path, or
 * nothing); what must hold is checked here instead:
 *
 *   - names are lower-case tokens, values hold no control characters
 *   - pseudo fields come first, once each, and are known ones
 *   - :method, :path and :scheme are there; :authority may say anything
 *   - at most HEAD_SIZE_MAX bytes, counted as HTTP/2 does, and HEAD_FIELDS_MAX fields
 *
 * Fields are copied into one run of bytes, NUL-terminated each.
 */
#pragma once

#include "base/buffer.h"

#define HEAD_SIZE_MAX 16384 /* SETTINGS_MAX_HEADER_LIST_SIZE */
#define HEAD_FIELDS_MAX 96
#define HEAD_FIELD_COST 32 /* RFC 9113 section 6.5.2: per field, beside its bytes */

enum head_verdict {
	HEAD_OK,
	HEAD_TOO_LARGE, /* deserves an answer */
	HEAD_MALFORMED, /* is a protocol error */
};

struct head {
	struct buffer bytes;
	struct {
		uint16_t name, value; /* offsets into bytes */
	} fields[HEAD_FIELDS_MAX];
	size_t n_fields, cost;
	bool regular;  /* a field that is no pseudo field came */
	unsigned seen; /* pseudo fields, one bit each */
	enum head_verdict verdict;
};

/* Forgets all fields and keeps the memory for the next request. */
void head_reset(struct head *h);
void head_deinit(struct head *h);
void head_add(struct head *h, const uint8_t *name, size_t name_size, const uint8_t *value, size_t value_size);
/* Once all fields were added. */
enum head_verdict head_finish(struct head *h);
/* NULL when there is no such field; the first one when there are several.
 * Valid until the next head_add or head_reset. */
const char *head_get(const struct head *h, const char *name);
