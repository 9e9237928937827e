/*
 * The part of TOML that hosts.toml files are written in, as a stream of
 * events: nothing is kept but the path that leads to the current value.
 *
 * Known: comments, [tables] with bare and quoted keys, dotted keys, basic and
 * literal strings, booleans, integers, arrays (over several lines, nested),
 * inline tables. Not known, and said so with the line's number: arrays of
 * tables, multi-line strings, floats and dates.
 *
 * Pure, no recursion; depth, string and path lengths are bounded.
 */
#pragma once

#include "base/fault.h"

#include <stdbool.h>

#define TOML_PATH_MAX 8
#define TOML_STRING_MAX 4096
#define TOML_DEPTH_MAX 4

enum toml_kind {
	TOML_TABLE, /* a [header] or the begin of an inline table */
	TOML_ARRAY, /* the begin of an array */
	TOML_STRING,
	TOML_BOOL,
	TOML_INTEGER,
};

/* A scalar inside arrays comes once per element; index says where it stands,
 * -1 from n_indexes on. Texts are valid during the call only. */
struct toml_event {
	enum toml_kind kind;
	const char *path[TOML_PATH_MAX];
	size_t n_path;
	long index[TOML_DEPTH_MAX];
	size_t n_indexes;
	const char *string;
	bool boolean;
	long long integer;
	unsigned line;
};

/* A negative result ends the parse; fault is the receiver's to fill, the line
 * is put in front. */
typedef int (*toml_fn)(void *ctx, const struct toml_event *event, struct fault *fault);
int toml_parse(const char *text, size_t size, toml_fn fn, void *ctx, struct fault *fault);
