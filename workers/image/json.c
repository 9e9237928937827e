/*
 * A scan over the bytes counts what would become objects before json-c sees
 * them; its own limits (depth, strictness, UTF-8) do the rest.
 */
#include "json.h"

#include <errno.h>
#include <json-c/json.h>

#define DEPTH_MAX 32
#define VALUES_MAX 200000
#define CONTAINERS_MAX 20000 /* each empty object costs json-c most of a kilobyte */

static struct json_object *inner(const struct json *n) {
	return (struct json_object *)(uintptr_t)n;
}

/* json-c takes single quotes for a key's even when it is strict; here they
 * would hide what is counted. */
static int scan(const char *p, size_t size, struct fault *fault) {
	size_t values = 0, containers = 0;
	bool string = false;
	for (size_t i = 0; i < size; i++) {
		if (string) {
			if (p[i] == '\\')
				i++;
			else if (p[i] == '"')
				string = false;
			continue;
		}
		if (p[i] == '\'')
			return fault_set(fault, FAULT_DATA_LOSS, "not valid JSON (single quotes)");
		string = p[i] == '"';
		values += p[i] == ',' || p[i] == ':';
		containers += p[i] == '{' || p[i] == '[';
	}
	if (values > VALUES_MAX || containers > CONTAINERS_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the JSON document has too many values");
	return 0;
}

int json_parse(const void *data, size_t size, struct json **ret_document, struct fault *fault) {
	int r = scan(data, size, fault);
	if (r < 0)
		return r;
	if (size > INT32_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "the JSON document is too long");
	struct json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
	if (!t)
		return fault_errno(fault, ENOMEM, "read a JSON document");
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *o = json_tokener_parse_ex(t, data, (int)size);
	enum json_tokener_error e = json_tokener_get_error(t);
	/* A number at the very end is only known to end when more comes. */
	if (e == json_tokener_continue) {
		o = json_tokener_parse_ex(t, "", 1);
		e = json_tokener_get_error(t);
	}
	json_tokener_free(t);
	if (e != json_tokener_success || !o) {
		json_object_put(o);
		return fault_set(fault, FAULT_DATA_LOSS, "not valid JSON (%s)",
				 e == json_tokener_success ? "null" : json_tokener_error_desc(e));
	}
	*ret_document = (struct json *)o;
	return 0;
}

void json_free(struct json *document) {
	json_object_put(inner(document));
}

bool json_is_object(const struct json *n) {
	return json_object_is_type(inner(n), json_type_object);
}

bool json_is_array(const struct json *n) {
	return json_object_is_type(inner(n), json_type_array);
}

const struct json *json_get(const struct json *object, const char *key) {
	struct json_object *v = NULL;
	if (json_is_object(object))
		json_object_object_get_ex(inner(object), key, &v);
	return (const struct json *)v;
}

const char *json_string(const struct json *n) {
	if (!json_object_is_type(inner(n), json_type_string))
		return NULL;
	const char *s = json_object_get_string(inner(n));
	return strlen(s) == (size_t)json_object_get_string_len(inner(n)) ? s : NULL;
}

const char *json_text(const struct json *object, const char *key) {
	const char *s = json_string(json_get(object, key));
	return s ? s : "";
}

bool json_integer(const struct json *n, int64_t *ret_value) {
	if (!json_object_is_type(inner(n), json_type_int))
		return false;
	*ret_value = json_object_get_int64(inner(n));
	return true;
}

size_t json_length(const struct json *array) {
	return json_is_array(array) ? json_object_array_length(inner(array)) : 0;
}

const struct json *json_at(const struct json *array, size_t i) {
	return i < json_length(array) ? (const struct json *)json_object_array_get_idx(inner(array), i) : NULL;
}

size_t json_size(const struct json *object) {
	return json_is_object(object) ? (size_t)json_object_object_length(inner(object)) : 0;
}

int json_each(const struct json *object, json_member_fn fn, void *ctx) {
	if (!json_is_object(object))
		return 0;
	json_object_object_foreach(inner(object), key, value) {
		int r = fn(ctx, key, (const struct json *)value);
		if (r != 0)
			return r;
	}
	return 0;
}

void json_quote(struct buffer *out, const char *text) {
	buffer_add(out, "\"", 1);
	for (const char *p = text; *p; p++) {
		if (*p == '"' || *p == '\\')
			buffer_addf(out, "\\%c", *p);
		else if ((unsigned char)*p < 0x20)
			buffer_addf(out, "\\u%04x", *p);
		else
			buffer_add(out, p, 1);
	}
	buffer_add(out, "\"", 1);
}
