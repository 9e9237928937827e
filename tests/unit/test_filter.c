/* containerd's filters: what is refused, and what each form matches. */
#include "tests/unit/tap.h"
#include "workers/api/containerd/filter.h"

#include <string.h>

static const struct {
	const char *path, *value;
} fields[] = {
	{ "id", "web-1" },
	{ "image", "docker.io/library/nginx:1.25" },
	{ "runtime.name", "io.containerd.runc.v2" },
	{ "labels.app", "shop" },
	{ "labels.io.cri/kind", "sandbox" },
	{ "labels.empty", "" },
};

static const char *field(const void *object, const char *const *path, size_t n_path) {
	char joined[256] = "";
	for (size_t i = 0; i < n_path; i++) {
		strncat(joined, i ? "." : "", sizeof(joined) - strlen(joined) - 1);
		strncat(joined, path[i], sizeof(joined) - strlen(joined) - 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcmp(fields[i].path, joined) == 0)
			return fields[i].value;
	return NULL;
}

static void test_matching(void) {
	static const struct {
		const char *text[3];
		bool matches;
	} rows[] = {
		{ { NULL }, true },
		{ { "" }, true },
		{ { "id" }, true },
		{ { "nothing" }, false },
		{ { "id==web-1" }, true },
		{ { "id == web-1" }, true },
		{ { "id==web-2" }, false },
		{ { "id!=web-2" }, true },
		{ { "id!=web-1" }, false },
		{ { "nothing!=x" }, true },
		{ { "nothing==\"\"" }, false },
		{ { "labels.empty==\"\"" }, true },
		{ { "labels.empty" }, true },
		{ { "image==docker.io/library/nginx:1.25" }, true },
		{ { "runtime.name==io.containerd.runc.v2" }, true },
		{ { "labels.\"io.cri/kind\"==sandbox" }, true },
		{ { "labels.\"io.cri/kind\"==\"sand\\x\"" }, false },
		{ { "id==web-1,labels.app==shop" }, true },
		{ { "id==web-1,labels.app==bar" }, false },
		{ { "id==web-2", "labels.app==shop" }, true },
		{ { "id==web-2", "labels.app==bar" }, false },
		{ { "id~=^web" }, true },
		{ { "id~=/^web-[0-9]+$/" }, true },
		{ { "id~=|^(a\\|web)|" }, true },
		{ { "id~=\"^x\"" }, false },
		{ { "image~=/nginx/,id~=/1$/" }, true },
		{ { "labels.empty~=/^$/" }, true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct arena a;
		struct filters *f = NULL;
		struct fault fault = { 0 };
		size_t n = 0;
		while (n < 3 && rows[i].text[n])
			n++;
		arena_init(&a, 0);
		int r = filters_parse(&a, (char *const *)(uintptr_t)rows[i].text, n, &f, &fault);
		tap_check(r == 0 && filters_match(f, field, NULL) == rows[i].matches, "%s: %s",
			  rows[i].text[0] ? rows[i].text[0] : "none at all", r < 0 ? fault.text : "");
		filters_free(f);
		arena_deinit(&a);
	}
}

static void test_refused(void) {
	static const char *const rows[] = {
		"==x",	      "1id",	    "id==",   "id==x,",	 "id==x y",
		"labels.\"a", "id~=/(/",    "id~=[",  "id=x",	 ",",
		"a..b",	      "a.",	    "id~=/x", "id\"x\"", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q",
		"\"a\\",      "id==x\ny z",
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct arena a;
		struct filters *f = NULL;
		struct fault fault = { 0 };
		char *text = (char *)(uintptr_t)rows[i];
		arena_init(&a, 0);
		tap_check(filters_parse(&a, &text, 1, &f, &fault) < 0 && !f && fault.code == FAULT_INVALID_ARGUMENT &&
			      strncmp(fault.text, "the filter \"", 12) == 0,
			  "refused: %s (%s)", rows[i], fault.text);
		arena_deinit(&a);
	}
}

/* An expression that a backtracking matcher never finishes ends, as no match. */
static void test_bounded(void) {
	struct arena a;
	struct filters *f = NULL;
	struct fault fault;
	char *text = (char *)(uintptr_t) "image~=/^((([a-z.\\/:0-9]+)+)+)+!$/";
	arena_init(&a, 0);
	int r = filters_parse(&a, &text, 1, &f, &fault);
	tap_check(r == 0 && !filters_match(f, field, NULL), "an expression that explodes is cut off");
	filters_free(f);
	arena_deinit(&a);
}

int main(void) {
	test_matching();
	test_refused();
	test_bounded();
	return tap_done();
}
