/* JSON of images, as clients send it: it may be anything. */
#pragma once

#include "base/buffer.h"

#include <json-c/json.h>

static inline void json_read_put(json_object **o) {
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_read_put)

/* The document's object; NULL: ret_why says why there is none. */
json_object *json_read(const struct buffer *document, const char **ret_why);
/* NULL: o is no object, or has no such member of that type. */
json_object *json_read_member(json_object *o, const char *key, json_type type);
