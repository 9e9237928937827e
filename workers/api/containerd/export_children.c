#include "workers/api/containerd/export_children.h"

#include "base/id.h"
#include "workers/api/containerd/json_read.h"

#include <errno.h>
#include <string.h>

#define CHILDREN_MAX 4096

enum export_kind export_kind_of(const char *media_type) {
	static const struct {
		const char *type;
		enum export_kind kind;
	} kinds[] = {
		{ "application/vnd.oci.image.index.v1+json", EXPORT_INDEX },
		{ "application/vnd.docker.distribution.manifest.list.v2+json", EXPORT_INDEX },
		{ "application/vnd.oci.image.manifest.v1+json", EXPORT_MANIFEST },
		{ "application/vnd.docker.distribution.manifest.v2+json", EXPORT_MANIFEST },
	};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].type, media_type) == 0)
			return kinds[i].kind;
	return EXPORT_OTHER;
}

bool export_is_foreign(const char *media_type) {
	static const char *const begins[] = { "application/vnd.oci.image.layer.nondistributable.",
					      "application/vnd.docker.image.rootfs.foreign." };
	for (size_t i = 0; i < ARRAY_SIZE(begins); i++)
		if (strncmp(media_type, begins[i], strlen(begins[i])) == 0)
			return true;
	return false;
}

static bool matches(const struct export_child *has, const Containerd__Types__Platform *want) {
	return strcmp(has->os, want->os) == 0 && strcmp(has->architecture, want->architecture) == 0 &&
	       (!*has->variant || !*want->variant || strcmp(has->variant, want->variant) == 0);
}

bool export_is_for(const struct export_child *c, Containerd__Types__Platform *const *platforms, size_t n) {
	bool is = !c->has_platform;
	for (size_t i = 0; !is && i < n; i++)
		is = matches(c, platforms[i]);
	return is;
}

static const char *text(struct arena *a, json_object *o, const char *key) {
	json_object *m = json_read_member(o, key, json_type_string);
	return m ? arena_strdup(a, json_object_get_string(m)) : "";
}

static int add(struct arena *a, json_object *descriptor, struct export_children *to, struct fault *fault) {
	json_object *platform = json_read_member(descriptor, "platform", json_type_object);
	struct export_child c = {
		.digest = text(a, descriptor, "digest"),
		.media_type = text(a, descriptor, "mediaType"),
		.has_platform = platform,
		.os = text(a, platform, "os"),
		.architecture = text(a, platform, "architecture"),
		.variant = text(a, platform, "variant"),
	};
	if (!c.digest || !c.media_type || !c.os || !c.architecture || !c.variant)
		return fault_errno(fault, ENOMEM, "export");
	if (!digest_valid(c.digest))
		return fault_set(fault, FAULT_DATA_LOSS, "one of its descriptors has no sha256 digest");
	to->v[to->n++] = c;
	return 0;
}

int export_children(struct arena *a, enum export_kind kind, const struct buffer *document,
		    struct export_children *ret_children, struct fault *fault) {
	bool is_index = kind == EXPORT_INDEX;
	const char *why;
	CLEANUP_JSON json_object *o = document->size <= EXPORT_DOCUMENT_MAX ? json_read(document, &why) : NULL;
	json_object *list = json_read_member(o, is_index ? "manifests" : "layers", json_type_array);
	json_object *config = is_index ? NULL : json_read_member(o, "config", json_type_object);
	size_t n = list ? json_object_array_length(list) : 0;
	struct export_children c = { 0 };
	if (!list || (!is_index && !config) || n > CHILDREN_MAX)
		return fault_set(fault, FAULT_DATA_LOSS, "it is no %s, or has more than %d parts",
				 is_index ? "index" : "manifest", CHILDREN_MAX);
	if (!(c.v = arena_alloc(a, (n + 1) * sizeof(*c.v))))
		return fault_errno(fault, ENOMEM, "export");
	int r = config ? add(a, config, &c, fault) : 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = add(a, json_object_array_get_idx(list, i), &c, fault);
	if (r == 0)
		*ret_children = c;
	return r;
}
