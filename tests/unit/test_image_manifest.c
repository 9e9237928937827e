#include "tests/unit/tap.h"
#include "workers/image/json.h"
#include "workers/image/manifest.h"

#include <string.h>

#define A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define C "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define CONFIG "{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A "\",\"size\":10}"
#define LAYER(type) "{\"mediaType\":\"" type "\",\"digest\":\"" B "\",\"size\":20}"
#define GZIP "application/vnd.oci.image.layer.v1.tar+gzip"
#define IMAGE(layers) "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" layers "]}"

static struct arena arena;

static int parse(const char *text, const char *type, struct manifest *m, struct fault *f) {
	*f = (struct fault){ 0 };
	return manifest_parse(text, strlen(text), type, &arena, m, f);
}

static void check_image(void) {
	struct manifest m;
	struct fault f;
	int r = parse(IMAGE(LAYER(GZIP) "," LAYER("application/vnd.docker.image.rootfs.diff.tar.zstd")), "", &m, &f);
	tap_check(r == 0 && m.kind == MANIFEST_IMAGE && m.n_layers == 2 && !strcmp(m.config->digest, A) &&
		      m.config->size == 10 && !strcmp(m.layers[1]->digest, B) && m.layers[1]->size == 20,
		  "an image manifest %s", f.text);
	tap_check(r == 0 && !strcmp(m.media_type, OCI_MANIFEST), "without a media type it is OCI's");
	tap_check(parse(IMAGE(""), OCI_MANIFEST "; charset=utf-8", &m, &f) == 0 && m.n_layers == 0 &&
		      !strcmp(m.media_type, OCI_MANIFEST),
		  "no layers; parameters of the media type are dropped");
	tap_check(parse(IMAGE(""), "text/plain", &m, &f) == 0, "a registry that says text/plain is forgiven");
}

static const struct {
	const char *what, *text, *type;
	enum fault_code code;
	const char *says;
} refused[] = {
	{ "nothing", "", "", FAULT_DATA_LOSS, "JSON" },
	{ "no JSON", "<html>", "", FAULT_DATA_LOSS, "JSON" },
	{ "an array", "[]", "", FAULT_DATA_LOSS, "schemaVersion" },
	{ "two values", "{} {}", "", FAULT_DATA_LOSS, "JSON" },
	{ "schema 1 by number", "{\"schemaVersion\":1,\"fsLayers\":[]}", "", FAULT_UNIMPLEMENTED, "schema 1" },
	{ "schema 1 by type", "{\"schemaVersion\":2}", "application/vnd.docker.distribution.manifest.v1+prettyjws",
	  FAULT_UNIMPLEMENTED, "schema 1" },
	{ "an empty one", "{\"schemaVersion\":2}", "", FAULT_DATA_LOSS, "neither" },
	{ "an index and image at once", "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[],\"manifests\":[]}",
	  "", FAULT_DATA_LOSS, "both" },
	{ "an image that calls itself an index",
	  "{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",\"config\":" CONFIG ",\"layers\":[]}", "",
	  FAULT_DATA_LOSS, "calls itself" },
	{ "an image that came as an index", IMAGE(""), DOCKER_LIST, FAULT_DATA_LOSS, "came as" },
	{ "a bad digest",
	  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"x\",\"digest\":\"sha256:../../"
	  "x\",\"size\":1},\"layers\":[]}",
	  "", FAULT_DATA_LOSS, "digest" },
	{ "a negative size",
	  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A
	  "\",\"size\":-1},\"layers\":[]}",
	  "", FAULT_DATA_LOSS, "size" },
	{ "a size as text",
	  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A
	  "\",\"size\":\"1\"},\"layers\":[]}",
	  "", FAULT_DATA_LOSS, "size" },
	{ "a large config",
	  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" A
	  "\",\"size\":8388609},\"layers\":[]}",
	  "", FAULT_RESOURCE_EXHAUSTED, "8388609" },
	{ "an artifact",
	  "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.cncf.helm.config.v1+json\",\"digest\":\"" A
	  "\",\"size\":1},\"layers\":[]}",
	  "", FAULT_INVALID_ARGUMENT, "artifact of type \"application/vnd.cncf.helm" },
	{ "an artifact by its type",
	  "{\"schemaVersion\":2,\"artifactType\":\"a/b\",\"config\":{\"mediaType\":\"application/"
	  "vnd.oci.empty.v1+json\",\"digest\":\"" A "\",\"size\":2},\"layers\":[]}",
	  "", FAULT_INVALID_ARGUMENT, "artifact of type \"a/b\"" },
	{ "a foreign layer", IMAGE(LAYER("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")), "",
	  FAULT_UNIMPLEMENTED, "don't distribute" },
	{ "a non-distributable layer", IMAGE(LAYER("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")), "",
	  FAULT_UNIMPLEMENTED, "don't distribute" },
	{ "an encrypted layer", IMAGE(LAYER("application/vnd.oci.image.layer.v1.tar+gzip+encrypted")), "",
	  FAULT_UNIMPLEMENTED, "isn't supported" },
	{ "layers that are no list", "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":{}}", "",
	  FAULT_INVALID_ARGUMENT, "layers" },
};

static void check_refused(void) {
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct manifest m;
		struct fault f;
		int r = parse(refused[i].text, refused[i].type, &m, &f);
		tap_check(r < 0 && f.code == refused[i].code && strstr(f.text, refused[i].says), "refuses %s: %s",
			  refused[i].what, f.text);
	}
}

#define ENTRY(digest, platform) "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" digest "\",\"size\":5" platform "}"
#define PLATFORM(os, arch) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"}"
#define INDEX(entries) "{\"schemaVersion\":2,\"manifests\":[" entries "]}"

static const char *choice(const char *text, const char *arch, struct fault *f) {
	struct manifest m;
	const struct manifest_entry *e;
	struct platform wanted = platform_make("linux", arch, "");
	if (parse(text, OCI_INDEX, &m, f) < 0 || manifest_choose(&m, &wanted, &e, f) < 0)
		return "";
	return e->blob.digest;
}

static void check_index(void) {
	struct fault f;
	const char *two = INDEX(ENTRY(A, PLATFORM("linux", "arm64")) "," ENTRY(B, PLATFORM("linux", "amd64")) "," ENTRY(
	    C, PLATFORM("unknown", "unknown")));
	tap_check(!strcmp(choice(two, "amd64", &f), B), "amd64 of two");
	tap_check(!strcmp(choice(two, "aarch64", &f), A), "arm64 of two");
	tap_check(!strcmp(choice(two, "s390x", &f), "") && f.code == FAULT_NOT_FOUND &&
		      !strcmp(f.text, "there is no image for linux/s390x, only for: linux/arm64, linux/amd64"),
		  "what there is is listed: %s", f.text);
	const char *maybe = INDEX(ENTRY(A, "") "," ENTRY(B, PLATFORM("linux", "amd64")));
	tap_check(!strcmp(choice(maybe, "amd64", &f), B), "a stated platform before none");
	tap_check(!strcmp(choice(maybe, "s390x", &f), A), "none before nothing");
	tap_check(!strcmp(choice(INDEX(""), "amd64", &f), "") && f.code == FAULT_NOT_FOUND, "an empty index: %s",
		  f.text);
	tap_check(!strcmp(choice("{\"schemaVersion\":2,\"manifests\":5}", "amd64", &f), "") &&
		      f.code == FAULT_DATA_LOSS,
		  "no list: %s", f.text);
	tap_check(
	    !strcmp(choice(INDEX("{\"mediaType\":\"application/x\",\"digest\":\"nonsense\"}"), "amd64", &f), "") &&
		f.code == FAULT_NOT_FOUND,
	    "what isn't an image is passed over: %s", f.text);
}

static const char config[] =
    "{\"created\":\"2024-02-29T12:34:56.789+01:00\",\"os\":\"linux\",\"architecture\":\"amd64\","
    "\"config\":{\"Entrypoint\":[\"/a\",\"b c\"],\"Cmd\":null,\"Env\":[\"X=1\",\"Y=\"],\"WorkingDir\":\"/w\","
    "\"User\":\"1:2\",\"StopSignal\":\"SIGUSR1\",\"Labels\":{\"k\":\"v\",\"n\":null},\"Volumes\":{\"/v\":{}},"
    "\"ExposedPorts\":{\"80/tcp\":{},\"53/udp\":null}},"
    "\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"" A "\",\"" B "\"]}}";

static int parse_config(const char *text, size_t layers, Bulkhead__ImageConfig **c, char ***ids, struct fault *f) {
	struct platform amd64 = platform_make("linux", "amd64", "");
	*f = (struct fault){ 0 };
	return image_config_parse(text, strlen(text), &amd64, layers, &arena, c, ids, f);
}

static void check_config(void) {
	Bulkhead__ImageConfig *c;
	struct fault f;
	char **ids;
	int r = parse_config(config, 2, &c, &ids, &f);
	tap_check(r == 0, "a config (%s)", f.text);
	if (r < 0)
		return;
	tap_check(c->n_entrypoint == 2 && !strcmp(c->entrypoint[1], "b c") && c->n_cmd == 0 && c->n_env == 2,
		  "its lists");
	tap_check(!strcmp(c->working_dir, "/w") && !strcmp(c->user, "1:2") && !strcmp(c->stop_signal, "SIGUSR1"),
		  "its texts");
	tap_check(c->n_labels == 1 && !strcmp(c->labels[0]->value, "v") && c->n_volumes == 1 &&
		      !strcmp(c->volumes[0], "/v"),
		  "its labels and volumes");
	tap_check(c->n_exposed_ports == 2 && !strcmp(c->exposed_ports[1], "53/udp"), "its ports");
	tap_check(c->created_at == INT64_C(1709206496789000000), "its time: %lld", (long long)c->created_at);
	tap_check(!strcmp(ids[0], A) && !strcmp(ids[1], B), "its diff ids");
	tap_check(protobuf_c_message_get_packed_size(&c->base) > 0, "it can be sent");
	tap_check(parse_config(config, 3, &c, &ids, &f) < 0 && strstr(f.text, "2 layers"), "another count: %s", f.text);
	tap_check(parse_config("{\"rootfs\":{\"diff_ids\":[\"x\"]}}", 1, &c, &ids, &f) < 0, "a bad diff id: %s",
		  f.text);
	tap_check(parse_config("{\"os\":\"linux\",\"architecture\":\"arm64\"}", 0, &c, &ids, &f) < 0 &&
		      f.code == FAULT_NOT_FOUND,
		  "another machine's: %s", f.text);
	tap_check(parse_config("{\"config\":{\"Env\":[1]}}", 0, &c, &ids, &f) < 0, "a number in Env: %s", f.text);
	tap_check(parse_config("{}", 0, &c, &ids, &f) == 0, "an empty config is one");
	r = parse_config("{\"created\":\"0001-01-01T00:00:00Z\"}", 0, &c, &ids, &f);
	tap_check(r == 0 && c->created_at == 0, "a year before the epoch");
	r = parse_config("{\"created\":\"9999-01-01T00:00:00Z\"}", 0, &c, &ids, &f);
	tap_check(r == 0 && c->created_at == 0, "a year beyond what fits");
	tap_check(parse_config("7", 0, &c, &ids, &f) < 0, "a number is none: %s", f.text);
}

static void check_limits(void) {
	struct json *doc;
	struct fault f;
	static char text[4 * 1024 * 1024];
	memset(text, '[', sizeof(text));
	tap_check(json_parse(text, sizeof(text), &doc, &f) < 0, "four million brackets: %s", f.text);
	tap_check(json_parse(text, 1000, &doc, &f) < 0, "a thousand deep: %s", f.text);
	for (size_t i = 0; i + 3 < sizeof(text); i += 3)
		memcpy(text + i, "{},", 3);
	text[0] = '[';
	text[1] = ' ';
	tap_check(json_parse(text, sizeof(text) - 1, &doc, &f) < 0, "a million objects: %s", f.text);
	tap_check(json_parse("\"\xff\"", 3, &doc, &f) < 0, "bytes that are no UTF-8: %s", f.text);
	tap_check(json_parse("{'a':1}", 7, &doc, &f) < 0, "single quotes: %s", f.text);
	tap_check(json_parse("{'\"':1}", 7, &doc, &f) < 0, "and what they could hide: %s", f.text);
	tap_check(json_parse("{\"a\":\"x\\u0000y\"}", 16, &doc, &f) == 0 && !json_string(json_get(doc, "a")),
		  "a text with a NUL is none");
	json_free(doc);
	CLEANUP_BUFFER struct buffer out = { 0 };
	json_quote(&out, "a\"\\\n\x01z");
	tap_check(out.size == 20 && memcmp(out.data, "\"a\\\"\\\\\\u000a\\u0001z\"", out.size) == 0, "quoting");
}

int main(void) {
	arena_init(&arena, 0);
	check_image();
	check_refused();
	check_index();
	check_config();
	check_limits();
	arena_deinit(&arena);
	return tap_done();
}
