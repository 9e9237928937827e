#include "workers/api/containerd/json_read.h"

#define DEPTH_MAX 16

json_object *json_read(const struct buffer *document, const char **ret_why) {
	struct json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
	json_object *o = t ? json_tokener_parse_ex(t, (const char *)document->data, (int)document->size) : NULL;
	if (!o)
		*ret_why = t ? json_tokener_error_desc(json_tokener_get_error(t)) : "out of memory";
	if (t)
		json_tokener_free(t);
	return o;
}

json_object *json_read_member(json_object *o, const char *key, json_type type) {
	json_object *m = NULL;
	bool is = json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &m) &&
		  json_object_is_type(m, type);
	return is ? m : NULL;
}
