/*
 * JSON from strangers, read strictly: one value, valid UTF-8, bounded depth,
 * and a bounded number of values, so that a document of a few megabytes can't
 * become gigabytes in memory. json-c is known here only.
 *
 * A node belongs to its document; every accessor takes NULL and nodes of the
 * wrong type, and answers as if the thing weren't there.
 */
#pragma once

#include "base/buffer.h"
#include "base/fault.h"

struct json; /* a node */

int json_parse(const void *data, size_t size, struct json **ret_document, struct fault *fault);
void json_free(struct json *document);
static inline void json_free_p(struct json **d) {
	json_free(*d);
}
#define CLEANUP_JSON CLEANUP(json_free_p)

bool json_is_object(const struct json *n);
bool json_is_array(const struct json *n);
const struct json *json_get(const struct json *object, const char *key);
/* NULL unless it is a string without NUL. */
const char *json_string(const struct json *n);
/* "" when it isn't there. */
const char *json_text(const struct json *object, const char *key);
bool json_integer(const struct json *n, int64_t *ret_value);
size_t json_length(const struct json *array);
const struct json *json_at(const struct json *array, size_t i);
size_t json_size(const struct json *object);
/* Members in the document's order; a non-zero result of fn ends it and is returned. */
typedef int (*json_member_fn)(void *ctx, const char *key, const struct json *value);
int json_each(const struct json *object, json_member_fn fn, void *ctx);

/* A text as a JSON string with its quotes. */
void json_quote(struct buffer *out, const char *text);
