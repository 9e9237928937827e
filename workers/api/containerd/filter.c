#define PCRE2_CODE_UNIT_WIDTH 8
#include "workers/api/containerd/filter.h"

#include <errno.h>
#include <pcre2.h>
#include <string.h>

#define PATH_MAX_FIELDS 16
#define MATCH_STEPS_MAX 100000
#define MATCH_HEAP_MAX_KIB 1024

enum comparison { PRESENT, EQUAL, UNEQUAL, MATCHES };

struct selector {
	const char *path[PATH_MAX_FIELDS];
	size_t n_path;
	enum comparison comparison;
	const char *value;
	pcre2_code *code; /* with MATCHES */
	struct selector *next;
};

struct filters {
	struct selector *any[FILTERS_MAX]; /* NULL: everything */
	size_t n;
	pcre2_match_context *limits;
	pcre2_match_data *data;
};

/* --- reading ---------------------------------------------------------------- */

struct reader {
	struct arena *arena;
	const char *text, *at;
	struct fault *fault;
};

static int refuse(struct reader *r, const char *what) {
	return fault_set(r->fault, FAULT_INVALID_ARGUMENT, "the filter \"%.200s\", at byte %zu: %s", r->text,
			 (size_t)(r->at - r->text), what);
}

static void blanks(struct reader *r) {
	while (*r->at == ' ' || *r->at == '\t')
		r->at++;
}

static int no_memory(struct reader *r) {
	return fault_set(r->fault, FAULT_RESOURCE_EXHAUSTED, "the filter \"%.200s\": out of memory", r->text);
}

static int copy(struct reader *r, const char *begin, size_t size, const char **ret_text) {
	char *text = arena_alloc(r->arena, size + 1);
	if (!text)
		return no_memory(r);
	memcpy(text, begin, size);
	text[size] = '\0';
	*ret_text = text;
	return 0;
}

static char escaped(char c) {
	switch (c) {
	case 'n':
		return '\n';
	case 't':
		return '\t';
	case 'r':
		return '\r';
	default:
		return c; /* the quote itself, a backslash */
	}
}

/* From one quote to the next; escapes mean something between double quotes
 * only, elsewhere they are the expression's. */
static int quoted(struct reader *r, const char **ret_text) {
	char quote = *r->at++;
	char *text = arena_alloc(r->arena, strlen(r->at) + 1);
	size_t n = 0;
	if (!text)
		return no_memory(r);
	for (; *r->at != quote; r->at++) {
		if (*r->at == '\\' && r->at[1] != '\0' && (quote == '"' || r->at[1] == quote))
			text[n++] = escaped(*++r->at);
		else if (*r->at != '\0')
			text[n++] = *r->at;
		else
			return refuse(r, "the quote has no end");
	}
	r->at++;
	text[n] = '\0';
	*ret_text = text;
	return 0;
}

static bool is_letter(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int read_field(struct reader *r, const char **ret_text) {
	if (*r->at == '"')
		return quoted(r, ret_text);
	const char *begin = r->at;
	if (!is_letter(*r->at))
		return refuse(r, "a field begins with a letter, or is in double quotes");
	while (is_letter(*r->at) || (*r->at >= '0' && *r->at <= '9') || *r->at == '_')
		r->at++;
	return copy(r, begin, (size_t)(r->at - begin), ret_text);
}

static int read_path(struct reader *r, struct selector *s) {
	for (;;) {
		if (s->n_path == PATH_MAX_FIELDS)
			return refuse(r, "the path has too many fields");
		int e = read_field(r, &s->path[s->n_path]);
		if (e < 0)
			return e;
		s->n_path++;
		if (*r->at != '.')
			return 0;
		r->at++;
	}
}

static int read_value(struct reader *r, bool expression, const char **ret_text) {
	if (*r->at == '"' || (expression && (*r->at == '/' || *r->at == '|')))
		return quoted(r, ret_text);
	size_t n = strcspn(r->at, ", \t");
	if (n == 0)
		return refuse(r, "a value is missing");
	const char *begin = r->at;
	r->at += n;
	return copy(r, begin, n, ret_text);
}

static enum comparison read_comparison(struct reader *r) {
	static const struct {
		const char *text;
		enum comparison comparison;
	} comparisons[] = { { "==", EQUAL }, { "!=", UNEQUAL }, { "~=", MATCHES } };
	for (size_t i = 0; i < ARRAY_SIZE(comparisons); i++)
		if (strncmp(r->at, comparisons[i].text, 2) == 0) {
			r->at += 2;
			return comparisons[i].comparison;
		}
	return PRESENT;
}

static int compile(struct reader *r, struct selector *s) {
	PCRE2_UCHAR why[128];
	PCRE2_SIZE where;
	int code;
	s->code = pcre2_compile((PCRE2_SPTR)s->value, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code,
				&where, NULL);
	if (s->code)
		return 0;
	pcre2_get_error_message(code, why, sizeof(why));
	return refuse(r, (const char *)why);
}

static int read_selector(struct reader *r, struct selector *s) {
	blanks(r);
	int e = read_path(r, s);
	if (e < 0)
		return e;
	blanks(r);
	s->comparison = read_comparison(r);
	if (s->comparison != PRESENT) {
		blanks(r);
		e = read_value(r, s->comparison == MATCHES, &s->value);
		blanks(r);
	}
	return e == 0 && s->comparison == MATCHES ? compile(r, s) : e;
}

/* Each selector hangs on the list before it is read: filters_free finds all. */
static int read_filter(struct reader *r, struct selector **list) {
	blanks(r);
	while (*r->at != '\0') {
		struct selector *s = arena_zalloc(r->arena, sizeof(*s));
		if (!s)
			return no_memory(r);
		*list = s;
		list = &s->next;
		int e = read_selector(r, s);
		if (e < 0)
			return e;
		if (*r->at != ',' && *r->at != '\0')
			return refuse(r, "\",\" or the end is expected");
		if (*r->at == ',' && r->at[1] == '\0')
			return refuse(r, "nothing follows the comma");
		r->at += *r->at == ',';
	}
	return 0;
}

int filters_parse(struct arena *a, char *const *texts, size_t n, struct filters **ret_filters, struct fault *fault) {
	struct filters *f = arena_zalloc(a, sizeof(*f));
	if (n > FILTERS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu filters are more than %d", n, FILTERS_MAX);
	if (!f || !(f->limits = pcre2_match_context_create(NULL)) || !(f->data = pcre2_match_data_create(1, NULL))) {
		filters_free(f);
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "filters: out of memory");
	}
	pcre2_set_match_limit(f->limits, MATCH_STEPS_MAX);
	pcre2_set_heap_limit(f->limits, MATCH_HEAP_MAX_KIB);
	for (; f->n < n; f->n++) {
		struct reader r = { .arena = a, .text = texts[f->n], .at = texts[f->n], .fault = fault };
		int e = strlen(r.text) > FILTER_SIZE_MAX ? refuse(&r, "it is too long")
							 : read_filter(&r, &f->any[f->n]);
		if (e < 0) {
			f->n++;
			filters_free(f);
			return e;
		}
	}
	*ret_filters = f;
	return 0;
}

void filters_free(struct filters *f) {
	if (!f)
		return;
	for (size_t i = 0; i < f->n; i++)
		for (struct selector *s = f->any[i]; s; s = s->next)
			pcre2_code_free(s->code);
	pcre2_match_context_free(f->limits);
	pcre2_match_data_free(f->data);
}

/* --- matching --------------------------------------------------------------- */

/* A field that isn't there is empty, but for "==" and presence. */
static bool selector_match(const struct filters *f, const struct selector *s, const char *found) {
	const char *text = found ? found : "";
	switch (s->comparison) {
	case PRESENT:
		return found != NULL;
	case EQUAL:
		return found && strcmp(found, s->value) == 0;
	case UNEQUAL:
		return strcmp(text, s->value) != 0;
	case MATCHES:
		return pcre2_match(s->code, (PCRE2_SPTR)text, strlen(text), 0, 0, f->data, f->limits) >= 0;
	}
	return false;
}

static bool all_match(const struct filters *f, const struct selector *s, filter_field_fn field, const void *object) {
	for (; s; s = s->next)
		if (!selector_match(f, s, field(object, s->path, s->n_path)))
			return false;
	return true;
}

bool filters_match(const struct filters *f, filter_field_fn field, const void *object) {
	if (!f)
		return true;
	for (size_t i = 0; i < f->n; i++)
		if (all_match(f, f->any[i], field, object))
			return true;
	return f->n == 0;
}

bool filters_demand(const struct filters *f, const char *field, const char *ret_values[FILTERS_MAX], size_t *ret_n) {
	for (size_t i = 0; i < f->n; i++) {
		const struct selector *s = f->any[i];
		while (s && (s->comparison != EQUAL || s->n_path != 1 || strcmp(s->path[0], field) != 0))
			s = s->next;
		if (!s)
			return false;
		ret_values[i] = s->value;
	}
	*ret_n = f->n;
	return f->n > 0;
}
