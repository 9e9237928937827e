/*
 * docs/tests.md keeps its word: each call of a service has a row in its
 * service's section, each row's file is there and has the text of the check,
 * and in a service's section the file names the call.
 */
#include "workers/api/services.h"
#include "base/fd.h"
#include "tap.h"

#include <fcntl.h>
#include <string.h>

#define PAGE "docs/tests.md"
#define FILE_MAX ((size_t)8 << 20)

/* A row's cells, cut out of a copy of its line. */
struct row {
	char line[512];
	char *subject, *file, *check;
};

static char *read_file(const char *path) {
	char *text;
	size_t size;
	int fd CLEANUP_FD = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fd_read_all(fd, FILE_MAX, &text, &size) == 0 ? text : NULL;
}

static char *cell_end(char *cell) {
	char *end = strstr(cell, " |");
	if (end)
		*end = '\0';
	return end;
}

/* False for what is no row of a table that has a test's file. */
static bool row_parse(const char *line, struct row *ret_row) {
	size_t n = strcspn(line, "\n");
	if (n >= sizeof(ret_row->line) || strncmp(line, "| ", 2) != 0)
		return false;
	memcpy(ret_row->line, line, n);
	ret_row->line[n] = '\0';
	ret_row->subject = ret_row->line + 2;
	char *end = cell_end(ret_row->subject);
	ret_row->file = end ? end + 3 : NULL;
	end = ret_row->file ? cell_end(ret_row->file) : NULL;
	ret_row->check = end ? end + 3 : NULL;
	return ret_row->check && cell_end(ret_row->check) && strncmp(ret_row->file, "tests/", 6) == 0;
}

static const char *next_line(const char *p) {
	p += strcspn(p, "\n");
	return *p ? p + 1 : p;
}

/* Whether a heading, "## a.B (and c.D)" or "## a.B: words", names the service. */
static bool heading_names(const char *heading, const char *service) {
	size_t line = strcspn(heading, "\n"), n = strlen(service);
	for (const char *p = heading + 2; (p = memmem(p, line - (size_t)(p - heading), service, n)); p++)
		if ((p[-1] == ' ' || p[-1] == '(') && strchr("\n): ", p[n]))
			return true;
	return false;
}

static bool has_section(const char *page, const char *service) {
	for (const char *p = page; *p; p = next_line(p))
		if (strncmp(p, "## ", 3) == 0 && heading_names(p, service))
			return true;
	return false;
}

/* A method's row in its service's section. */
static bool has_row(const char *page, const char *service, const char *method) {
	bool within = false;
	struct row r;
	for (const char *p = page; *p; p = next_line(p)) {
		if (strncmp(p, "## ", 3) == 0)
			within = heading_names(p, service);
		else if (within && row_parse(p, &r) && strcmp(r.subject, method) == 0)
			return true;
	}
	return false;
}

/* A service of containerd's may be without a section, as the page says; one that
 * has it has it whole. */
static bool has_to_have(const char *page, const char *service) {
	return strncmp(service, "containerd.", 11) != 0 || has_section(page, service);
}

static void test_calls(const char *page) {
	for (const struct grpc_service *s = services; s->name; s++) {
		if (!has_to_have(page, s->name))
			continue;
		unsigned missing = 0;
		for (const struct grpc_method *m = s->methods; m->name; m++)
			if (!has_row(page, s->name, m->name)) {
				printf("# no row of %s\n", m->name);
				missing++;
			}
		tap_check(missing == 0, "each call of %s has a row in " PAGE, s->name);
	}
}

/* heading: of the section. A section that begins with a service's name is about
 * calls. */
static bool row_true(const struct row *r, const char *heading) {
	char *text CLEANUP_FREE = read_file(r->file);
	bool call = false;
	for (const struct grpc_service *s = services; s->name; s++)
		call |= heading_names(heading, s->name);
	if (text && strstr(text, r->check) && (!call || strstr(text, r->subject)))
		return true;
	printf("# %s: %s\n", r->file, !text ? "isn't there" : strstr(text, r->check) ? r->subject : r->check);
	return false;
}

static void test_rows(const char *page) {
	const char *heading = "## ";
	unsigned rows = 0, wrong = 0;
	struct row r;
	for (const char *p = page; *p; p = next_line(p)) {
		if (strncmp(p, "## ", 3) == 0)
			heading = p;
		if (!row_parse(p, &r))
			continue;
		rows++;
		wrong += !row_true(&r, heading);
	}
	tap_check(rows > 150 && wrong == 0, "%u rows of " PAGE " name a file that has the check", rows);
}

/* The checks above notice what they are for. */
static void test_self(void) {
	static const char page[] = "## a.B (and c.D)\n\n| Call | tests/run | usage |\n| Other | tests/nothing | x |\n";
	struct row r;
	tap_check(has_row(page, "a.B", "Call") && has_row(page, "c.D", "Call") && !has_row(page, "a.B", "Cal") &&
		      !has_row(page, "a", "Call") && !has_row(page, "x.B", "Call"),
		  "rows are found by service and call");
	bool good = row_parse(strstr(page, "| Call"), &r) && row_true(&r, "## x");
	good &= row_parse("| Call | tests/run | no such words |", &r) && !row_true(&r, "## x");
	good &= row_parse(strstr(page, "| Other"), &r) && !row_true(&r, "## x");
	good &= row_parse("| NoSuchCall | tests/run | usage |", &r) && !row_true(&r, "## runtime.v1.RuntimeService");
	tap_check(good, "a file that isn't there, a check or a call that it doesn't have are noticed");
}

int main(void) {
	char *page CLEANUP_FREE = read_file(PAGE);
	test_self();
	tap_check(page != NULL, PAGE " is there");
	if (page) {
		test_calls(page);
		test_rows(page);
	}
	return tap_done();
}
