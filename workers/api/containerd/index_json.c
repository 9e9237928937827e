#include "workers/api/containerd/index_json.h"

#include <string.h>

void index_json_begin(struct json *j) {
	json_open(j, NULL, '{');
	json_number(j, "schemaVersion", 2);
	json_open(j, "manifests", '[');
}

static void add_name(struct json *j, const char *name) {
	const char *colon = strrchr(name, ':');
	json_open(j, "annotations", '{');
	json_text(j, "io.containerd.image.name", name);
	if (colon && !strchr(colon, '/') && !strchr(name, '@'))
		json_text(j, "org.opencontainers.image.ref.name", colon + 1);
	json_close(j, '}');
}

void index_json_add(struct json *j, const char *media_type, const char *digest, uint64_t size, const char *name) {
	json_open(j, NULL, '{');
	json_text(j, "mediaType", media_type);
	json_text(j, "digest", digest);
	json_unsigned(j, "size", size);
	if (name)
		add_name(j, name);
	json_close(j, '}');
}

void index_json_end(struct json *j) {
	json_close(j, ']');
	json_close(j, '}');
}
