/* Writes an index.json of an OCI image layout: begin, the images, end. */
#pragma once

#include "base/json.h"

void index_json_begin(struct json *j);
/* name NULL: it has none. */
void index_json_add(struct json *j, const char *media_type, const char *digest, uint64_t size, const char *name);
void index_json_end(struct json *j);
