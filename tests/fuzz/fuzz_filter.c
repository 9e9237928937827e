/*
 * containerd's filters, one per line, on an object that has some fields.
 *
 * Invariants beyond the sanitisers': a refusal has a sentence, matching has an
 * end, and the same filters match the same object each time.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/api/containerd/filter.h"

#include <string.h>

static const char *field(const void *object, const char *const *path, size_t n_path) {
	require(n_path > 0);
	if (strcmp(path[0], "labels") == 0)
		return n_path == 2 ? "a-b_c.d/e=f" : NULL;
	return n_path == 1 && strcmp(path[0], "id") == 0 ? "web-1web-1web-1web-1web-1web-1!" : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	char *texts[FILTERS_MAX + 1], *rest;
	size_t n = 0;
	struct arena arena;
	struct fault fault = { 0 };
	struct filters *filters = NULL;
	arena_init(&arena, 0);
	char *text = arena_alloc(&arena, size + 1);
	require(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	for (char *line = strtok_r(text, "\n", &rest); line && n < ARRAY_SIZE(texts);
	     line = strtok_r(NULL, "\n", &rest))
		texts[n++] = line;
	int r = filters_parse(&arena, texts, n, &filters, &fault);
	require(r == 0 || (fault.code != FAULT_NONE && fault.text[0]));
	if (r == 0) {
		require(filters_match(filters, field, NULL) == filters_match(filters, field, NULL));
		filters_free(filters);
	}
	arena_deinit(&arena);
	return 0;
}
