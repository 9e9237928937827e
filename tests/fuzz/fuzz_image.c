/*
 * What registries and administrators write: references, WWW-Authenticate,
 * hosts.toml, manifests and configs. The first byte chooses the parser, the
 * rest is its text.
 *
 * Invariants beyond the sanitisers': what a parser accepts fits where it goes
 * (a reference in a URL, a challenge without control characters, a config that
 * packs), and a refusal always has a sentence.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/image/challenge.h"
#include "workers/image/hosts.h"
#include "workers/image/manifest.h"
#include "workers/image/reference.h"

#include <string.h>

static void said(int r, const struct fault *f) {
	require(r == 0 || (f->code != FAULT_NONE && f->text[0]));
}

static void try_reference(const char *text) {
	static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/:[]";
	struct reference r;
	struct fault f = { 0 };
	int e = reference_parse(text, &r, &f);
	said(e, &f);
	if (e < 0)
		return;
	require(r.host[strspn(r.host, safe)] == '\0' && r.path[strspn(r.path, safe)] == '\0');
	require(!strstr(r.path, "..") && !strstr(r.path, "//") && r.path[0] != '/' &&
		(r.tag[0] != '\0') != (r.digest[0] != '\0'));
}

static void try_challenge(const char *text) {
	struct challenge c = { 0 };
	challenge_parse(text, &c);
	require(c.scheme != CHALLENGE_BEARER || c.realm[0]);
	for (const char *p = c.realm; *p; p++)
		require((unsigned char)*p >= 0x20);
}

static void try_hosts(const char *text, size_t size) {
	struct hosts h = { 0 };
	struct fault f = { 0 };
	int r = hosts_parse(text, size, "/nowhere", "registry.example", &h, &f);
	said(r, &f);
	for (size_t i = 0; r == 0 && i < h.n; i++)
		require(strncmp(h.list[i].base, "http", 4) == 0 && !strpbrk(h.list[i].base, "\r\n @"));
	hosts_deinit(&h);
}

static void try_manifest(const char *text, size_t size, struct arena *arena) {
	struct manifest m;
	struct fault f = { 0 };
	const struct manifest_entry *e;
	struct platform wanted = platform_make("linux", "amd64", "");
	int r = manifest_parse(text, size, "", arena, &m, &f);
	said(r, &f);
	if (r == 0 && m.kind == MANIFEST_INDEX)
		said(manifest_choose(&m, &wanted, &e, &f), &f);
}

static void try_config(const char *text, size_t size, struct arena *arena) {
	Bulkhead__ImageConfig *c;
	char **ids;
	struct fault f = { 0 };
	struct platform wanted = platform_make("linux", "amd64", "");
	int r = image_config_parse(text, size, &wanted, 1, arena, &c, &ids, &f);
	said(r, &f);
	if (r < 0)
		return;
	size_t packed = protobuf_c_message_get_packed_size(&c->base);
	uint8_t *out = malloc(packed + 1);
	require(out && protobuf_c_message_pack(&c->base, out) == packed);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size == 0)
		return 0;
	struct arena arena;
	char *text = malloc(size);
	require(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	arena_init(&arena, (size_t)64 << 20);
	switch (data[0] % 5) {
	case 0:
		try_reference(text);
		break;
	case 1:
		try_challenge(text);
		break;
	case 2:
		try_hosts(text, size - 1);
		break;
	case 3:
		try_manifest(text, size - 1, &arena);
		break;
	default:
		try_config(text, size - 1, &arena);
	}
	arena_deinit(&arena);
	free(text);
	return 0;
}
