/*
 * One pass over the text. The path is a stack of strings in one small pool:
 * the table's part stays until the next header, a key's part until its value
 * ends. Open arrays and inline tables are a second small stack, so that
 * nothing recurses on the input.
 */
#include "toml.h"

#include <errno.h>
#include <string.h>

struct open {
	bool table;    /* inline table, else array */
	long count;    /* elements begun so far */
	size_t n_path; /* to return to when it closes */
};

struct parser {
	const char *p, *end;
	unsigned line;
	toml_fn fn;
	void *ctx;
	struct fault *fault;
	char pool[TOML_STRING_MAX * 2];
	size_t pool_used;
	const char *path[TOML_PATH_MAX];
	size_t n_path, n_table;
	struct open open[TOML_DEPTH_MAX];
	size_t n_open;
};

static int bad(struct parser *t, const char *why) {
	return fault_set(t->fault, FAULT_INVALID_ARGUMENT, "line %u: %s", t->line, why);
}

static bool at(const struct parser *t, char c) {
	return t->p < t->end && *t->p == c;
}

static bool take(struct parser *t, char c) {
	if (!at(t, c))
		return false;
	t->p++;
	return true;
}

static void skip_blanks(struct parser *t) {
	while (at(t, ' ') || at(t, '\t'))
		t->p++;
}

/* Blanks, comments and ends of lines. */
static void skip_lines(struct parser *t) {
	for (;;) {
		skip_blanks(t);
		if (at(t, '#'))
			while (t->p < t->end && *t->p != '\n')
				t->p++;
		if (at(t, '\r') && t->p + 1 < t->end && t->p[1] == '\n')
			t->p++;
		if (!take(t, '\n'))
			return;
		t->line++;
	}
}

static int end_of_line(struct parser *t) {
	unsigned line = t->line;
	skip_lines(t);
	if (t->p == t->end || t->line != line)
		return 0;
	return bad(t, "unexpected text after the value");
}

static bool bare(char c) {
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

static int pool_add(struct parser *t, char c) {
	if (t->pool_used == sizeof(t->pool))
		return bad(t, "the text is too long");
	t->pool[t->pool_used++] = c;
	return 0;
}

static int pool_add_rune(struct parser *t, int digits) {
	uint32_t rune = 0;
	for (int i = 0; i < digits; i++) {
		static const char hex[] = "0123456789abcdef0123456789ABCDEF";
		const char *h = t->p < t->end && *t->p ? strchr(hex, *t->p) : NULL;
		if (!h)
			return bad(t, "bad \\u escape");
		rune = rune << 4 | ((h - hex) & 15);
		t->p++;
	}
	if (rune == 0 || rune > 0x10ffff || (rune >= 0xd800 && rune < 0xe000))
		return bad(t, "bad \\u escape");
	if (rune < 0x80)
		return pool_add(t, (char)rune);
	int follow = rune < 0x800 ? 1 : rune < 0x10000 ? 2 : 3;
	static const uint8_t lead[] = { 0, 0xc0, 0xe0, 0xf0 };
	int r = pool_add(t, (char)(lead[follow] | rune >> (6 * follow)));
	while (r == 0 && follow-- > 0)
		r = pool_add(t, (char)(0x80 | ((rune >> (6 * follow)) & 0x3f)));
	return r;
}

static int escape(struct parser *t) {
	if (t->p == t->end)
		return bad(t, "the string doesn't end");
	char c = *t->p++;
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	const char *found = c ? strchr(from, c) : NULL;
	if (found)
		return pool_add(t, to[found - from]);
	if (c == 'u' || c == 'U')
		return pool_add_rune(t, c == 'u' ? 4 : 8);
	return bad(t, "unknown escape in the string");
}

/* A quoted string into the pool; the opening quote is still there. */
static int quoted(struct parser *t, const char **ret_text) {
	char quote = *t->p++;
	size_t start = t->pool_used;
	if (at(t, quote) && t->p + 1 < t->end && t->p[1] == quote)
		return bad(t, "strings of several lines are not supported");
	for (;;) {
		if (t->p == t->end || *t->p == '\n')
			return bad(t, "the string doesn't end on its line");
		char c = *t->p++;
		if (c == quote)
			break;
		if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f)
			return bad(t, "control character in the string");
		int r = c == '\\' && quote == '"' ? escape(t) : pool_add(t, c);
		if (r < 0)
			return r;
		if (t->pool_used - start > TOML_STRING_MAX)
			return bad(t, "the string is too long");
	}
	int r = pool_add(t, '\0');
	*ret_text = t->pool + start;
	return r;
}

static int key(struct parser *t) {
	if (t->n_path == TOML_PATH_MAX)
		return bad(t, "tables are nested too deeply");
	const char *text = t->pool + t->pool_used;
	int r = 0;
	if (at(t, '"') || at(t, '\'')) {
		r = quoted(t, &text);
	} else {
		if (t->p == t->end || !bare(*t->p))
			return bad(t, "a key is expected");
		while (r == 0 && t->p < t->end && bare(*t->p))
			r = pool_add(t, *t->p++);
		if (r == 0)
			r = pool_add(t, '\0');
	}
	if (r == 0)
		t->path[t->n_path++] = text;
	return r;
}

static int dotted_key(struct parser *t) {
	do {
		skip_blanks(t);
		int r = key(t);
		if (r < 0)
			return r;
		skip_blanks(t);
	} while (take(t, '.'));
	return 0;
}

/* Shortens the path; its strings leave the pool with it. */
static void path_cut(struct parser *t, size_t n) {
	if (t->n_path > n)
		t->pool_used = (size_t)(t->path[n] - t->pool);
	t->n_path = n;
}

static int emit(struct parser *t, struct toml_event *e) {
	for (size_t i = 0; i < TOML_DEPTH_MAX; i++)
		e->index[i] = -1;
	for (size_t i = 0; i < t->n_open; i++)
		if (!t->open[i].table)
			e->index[e->n_indexes++] = t->open[i].count - 1;
	memcpy(e->path, t->path, sizeof(e->path));
	e->n_path = t->n_path;
	e->line = t->line;
	int r = t->fn(t->ctx, e, t->fault);
	return r < 0 ? fault_prefix(t->fault, r, "line %u", t->line) : 0;
}

static int header(struct parser *t) {
	path_cut(t, 0);
	if (at(t, '['))
		return bad(t, "arrays of tables are not supported");
	int r = dotted_key(t);
	if (r < 0)
		return r;
	if (!take(t, ']'))
		return bad(t, "\"]\" is expected after the table's name");
	t->n_table = t->n_path;
	r = emit(t, &(struct toml_event){ .kind = TOML_TABLE });
	return r < 0 ? r : end_of_line(t);
}

static int scalar_word(struct parser *t) {
	char word[32];
	size_t n = 0;
	while (t->p < t->end && (bare(*t->p) || *t->p == '+' || *t->p == '.' || *t->p == ':')) {
		if (n == sizeof(word) - 1)
			return bad(t, "a string, boolean or integer is expected");
		word[n++] = *t->p++;
	}
	word[n] = '\0';
	struct toml_event e = { .kind = TOML_BOOL, .boolean = strcmp(word, "true") == 0 };
	if (e.boolean || strcmp(word, "false") == 0)
		return emit(t, &e);
	char *end;
	errno = 0;
	e.kind = TOML_INTEGER;
	e.integer = strtoll(word, &end, 10);
	if (n == 0 || *end || errno)
		return bad(t, "a string, boolean or integer is expected");
	return emit(t, &e);
}

static int open_value(struct parser *t, bool table) {
	if (t->n_open == TOML_DEPTH_MAX)
		return bad(t, "values are nested too deeply");
	int r = emit(t, &(struct toml_event){ .kind = table ? TOML_TABLE : TOML_ARRAY });
	t->open[t->n_open++] = (struct open){ .table = table, .n_path = t->n_path };
	return r;
}

/* The begin of a value: a scalar is done with, an array or table is opened. */
static int value(struct parser *t) {
	skip_blanks(t);
	if (take(t, '['))
		return open_value(t, false);
	if (take(t, '{'))
		return open_value(t, true);
	if (!at(t, '"') && !at(t, '\''))
		return scalar_word(t);
	size_t used = t->pool_used;
	struct toml_event e = { .kind = TOML_STRING };
	int r = quoted(t, &e.string);
	if (r == 0)
		r = emit(t, &e);
	t->pool_used = used;
	return r;
}

static int assignment(struct parser *t) {
	int r = dotted_key(t);
	if (r < 0)
		return r;
	if (!take(t, '='))
		return bad(t, "\"=\" is expected after the key");
	return value(t);
}

/* One step inside the innermost open array or inline table. */
static int step_open(struct parser *t) {
	struct open *o = &t->open[t->n_open - 1];
	if (o->table)
		skip_blanks(t);
	else
		skip_lines(t);
	if (take(t, o->table ? '}' : ']')) {
		path_cut(t, o->n_path);
		t->n_open--;
		return 0;
	}
	if (o->count > 0 && !take(t, ','))
		return bad(t, "\",\" or the closing bracket is expected");
	if (o->table)
		skip_blanks(t);
	else
		skip_lines(t);
	if (!o->table && at(t, ']'))
		return 0;
	path_cut(t, o->n_path);
	o->count++;
	return o->table ? assignment(t) : value(t);
}

int toml_parse(const char *text, size_t size, toml_fn fn, void *ctx, struct fault *fault) {
	struct parser *t = calloc(1, sizeof(*t));
	if (!t)
		return fault_errno(fault, ENOMEM, "read the file");
	*t = (struct parser){ .p = text, .end = text + size, .line = 1, .fn = fn, .ctx = ctx, .fault = fault };
	int r = 0;
	while (r == 0) {
		if (t->n_open > 0) {
			r = step_open(t);
			if (r == 0 && t->n_open == 0)
				r = end_of_line(t);
			continue;
		}
		skip_lines(t);
		if (t->p == t->end)
			break;
		if (take(t, '[')) {
			r = header(t);
			continue;
		}
		path_cut(t, t->n_table);
		r = assignment(t);
		if (r == 0 && t->n_open == 0)
			r = end_of_line(t);
	}
	free(t);
	return r;
}
