#include "workers/api/containerd/export_platforms.h"

#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#define DEPTH_MAX 16
#define ENTRIES_MAX 4096

static void json_put(json_object **o) {
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_put)

bool export_is_index(const char *media_type) {
	return strcmp(media_type, "application/vnd.oci.image.index.v1+json") == 0 ||
	       strcmp(media_type, "application/vnd.docker.distribution.manifest.list.v2+json") == 0;
}

static json_object *parse(const struct buffer *index) {
	struct json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
	json_object *o = t ? json_tokener_parse_ex(t, (const char *)index->data, (int)index->size) : NULL;
	if (t)
		json_tokener_free(t);
	return o;
}

static const char *text(json_object *o, const char *key) {
	json_object *m = NULL;
	bool is = json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, key, &m) &&
		  json_object_is_type(m, json_type_string);
	return is ? json_object_get_string(m) : "";
}

static bool matches(json_object *has, const Containerd__Types__Platform *want) {
	const char *variant = text(has, "variant");
	return strcmp(text(has, "os"), want->os) == 0 && strcmp(text(has, "architecture"), want->architecture) == 0 &&
	       (!*variant || !*want->variant || strcmp(variant, want->variant) == 0);
}

static bool stays(json_object *entry, Containerd__Types__Platform *const *platforms, size_t n) {
	json_object *has = NULL;
	if (!json_object_is_type(entry, json_type_object) || !json_object_object_get_ex(entry, "platform", &has))
		return true;
	for (size_t i = 0; i < n; i++)
		if (matches(has, platforms[i]))
			return true;
	return false;
}

static int leave(struct arena *a, struct export_left_out *l, const char *digest) {
	const char **longer = arena_alloc(a, (l->n + 1) * sizeof(*longer));
	char *copy = arena_strdup(a, digest);
	if (!longer || !copy)
		return -ENOMEM;
	if (l->n)
		memcpy(longer, l->digests, l->n * sizeof(*longer));
	longer[l->n++] = copy;
	l->digests = longer;
	return 0;
}

int export_leave_out(struct arena *a, const struct buffer *index, Containerd__Types__Platform *const *platforms,
		     size_t n_platforms, struct export_left_out *left_out, struct fault *fault) {
	CLEANUP_JSON json_object *o = parse(index);
	json_object *list = NULL;
	bool is = o && json_object_is_type(o, json_type_object) && json_object_object_get_ex(o, "manifests", &list) &&
		  json_object_is_type(list, json_type_array);
	size_t n = is ? json_object_array_length(list) : 0, n_stay = 0;
	if (!is || n > ENTRIES_MAX)
		return fault_set(fault, FAULT_DATA_LOSS, "export: the image's index is malformed");
	for (size_t i = 0; i < n; i++) {
		json_object *entry = json_object_array_get_idx(list, i);
		bool stay = stays(entry, platforms, n_platforms);
		n_stay += stay;
		if (!stay && leave(a, left_out, text(entry, "digest")) < 0)
			return fault_errno(fault, ENOMEM, "export");
	}
	return n_stay ? 0 : fault_set(fault, FAULT_NOT_FOUND, "export: the image isn't there for the platforms named");
}
