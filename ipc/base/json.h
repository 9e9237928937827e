/* Writing JSON: a buffer and where the commas go. */
#pragma once

#include "base/buffer.h"

struct json {
	struct buffer text;
	bool first; /* nothing in this object or array yet */
};

/* key NULL inside an array and at the top. */
void json_open(struct json *j, const char *key, char bracket); /* '{' or '[' */
void json_close(struct json *j, char bracket);
void json_text(struct json *j, const char *key, const char *value);
void json_number(struct json *j, const char *key, int64_t value);
void json_unsigned(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
