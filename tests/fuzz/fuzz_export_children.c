/*
 * An image's documents, as a client has made them content: an index or a
 * manifest, by the first byte; the rest is its text.
 *
 * Invariants beyond the sanitisers': a refusal has a sentence; what they lead to
 * has a digest, whose grammar paths of an archive are made by.
 */
#include "tests/fuzz/fuzz.h"

#include "base/id.h"
#include "workers/api/containerd/export_children.h"

#include <string.h>

static void check(const struct export_child *c, Containerd__Types__Platform *const *platforms) {
	require(c->digest && digest_valid(c->digest));
	require(c->media_type && c->os && c->architecture && c->variant);
	require(c->has_platform || (!*c->os && !*c->architecture && !*c->variant));
	bool mine = export_is_for(c, platforms, 1);
	require(c->has_platform ? !mine || strcmp(c->os, "linux") == 0 : mine);
	require(!export_is_foreign(c->media_type) || export_kind_of(c->media_type) == EXPORT_OTHER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	Containerd__Types__Platform here = CONTAINERD__TYPES__PLATFORM__INIT, *platforms[] = { &here };
	struct export_children children = { 0 };
	struct fault fault = { 0 };
	struct arena arena;
	if (size == 0)
		return 0;
	here.os = (char *)"linux";
	here.architecture = (char *)"amd64";
	struct buffer document = { .data = (uint8_t *)(uintptr_t)data + 1, .size = size - 1 };
	enum export_kind kind = data[0] % 2 ? EXPORT_MANIFEST : EXPORT_INDEX;
	arena_init(&arena, 0);
	int r = export_children(&arena, kind, &document, &children, &fault);
	require(r == 0 || (fault.code != FAULT_NONE && fault.text[0]));
	require(r < 0 || kind == EXPORT_INDEX || children.n > 0);
	for (size_t i = 0; r == 0 && i < children.n; i++)
		check(&children.v[i], platforms);
	arena_deinit(&arena);
	return 0;
}
