#include "base/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SLICE ".slice"
#define SCOPE ".scope"
#define SCOPE_PREFIX "bulkhead-"

static bool alnum(char c) {
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Letters, digits and what systemd leaves unescaped, with its escapes' own
 * backslash; '-' is looked at by the caller. */
static bool word(const char *p, size_t n) {
	for (size_t i = 0; i < n; i++)
		if (!alnum(p[i]) && !strchr("_.:\\", p[i]))
			return false;
	return n > 0;
}

static bool ends_with(const char *name, const char *suffix) {
	size_t n = strlen(name), k = strlen(suffix);
	return n > k && strcmp(name + n - k, suffix) == 0;
}

bool slice_valid(const char *name) {
	if (strcmp(name, "-" SLICE) == 0)
		return true;
	if (!ends_with(name, SLICE) || strlen(name) >= UNIT_NAME_SIZE)
		return false;
	const char *p = name, *end = name + strlen(name) - strlen(SLICE);
	for (;;) {
		const char *dash = memchr(p, '-', (size_t)(end - p));
		if (!word(p, (size_t)((dash ? dash : end) - p)))
			return false;
		if (!dash)
			return true;
		p = dash + 1;
	}
}

int slice_path(const char *name, char *ret_path, size_t size) {
	if (!slice_valid(name))
		return -EINVAL;
	size_t used = 0, stem = strlen(name) - strlen(SLICE);
	ret_path[0] = '\0';
	for (size_t at = 1; name[0] != '-' && at <= stem; at++) {
		if (at < stem && name[at] != '-')
			continue;
		int n = snprintf(ret_path + used, size - used, "/%.*s" SLICE, (int)at, name);
		if ((size_t)n >= size - used)
			return -ENAMETOOLONG;
		used += (size_t)n;
	}
	return 0;
}

static bool id_plain(const char *id) {
	size_t n = 0;
	while (alnum(id[n]))
		n++;
	return n > 0 && id[n] == '\0';
}

static int named(char ret_name[UNIT_NAME_SIZE], int n) {
	return n < 0 || n >= UNIT_NAME_SIZE ? -ENAMETOOLONG : 0;
}

/* What is before the id in a slice below parent; nothing below the root. */
static int stem_of(const char *parent, char ret_stem[UNIT_NAME_SIZE]) {
	if (!slice_valid(parent))
		return -EINVAL;
	ret_stem[0] = '\0';
	if (parent[0] == '-')
		return 0;
	return named(ret_stem,
		     snprintf(ret_stem, UNIT_NAME_SIZE, "%.*s-", (int)(strlen(parent) - strlen(SLICE)), parent));
}

int slice_below(const char *parent, const char *id, char ret_name[UNIT_NAME_SIZE]) {
	char stem[UNIT_NAME_SIZE];
	int r = id_plain(id) ? stem_of(parent, stem) : -EINVAL;
	return r < 0 ? r : named(ret_name, snprintf(ret_name, UNIT_NAME_SIZE, "%s%s" SLICE, stem, id));
}

int slice_pattern(const char *parent, char ret_pattern[UNIT_NAME_SIZE]) {
	char stem[UNIT_NAME_SIZE];
	int r = stem_of(parent, stem);
	return r < 0 ? r : named(ret_pattern, snprintf(ret_pattern, UNIT_NAME_SIZE, "%s*" SLICE, stem));
}

bool slice_id(const char *parent, const char *name, char ret_id[UNIT_NAME_SIZE]) {
	char stem[UNIT_NAME_SIZE];
	if (stem_of(parent, stem) < 0 || !slice_valid(name) || strncmp(name, stem, strlen(stem)) != 0)
		return false;
	snprintf(ret_id, UNIT_NAME_SIZE, "%.*s", (int)(strlen(name) - strlen(stem) - strlen(SLICE)),
		 name + strlen(stem));
	return id_plain(ret_id);
}

int scope_name(const char *id, char ret_name[UNIT_NAME_SIZE]) {
	if (!id_plain(id))
		return -EINVAL;
	return named(ret_name, snprintf(ret_name, UNIT_NAME_SIZE, SCOPE_PREFIX "%s" SCOPE, id));
}

bool scope_id(const char *name, char ret_id[UNIT_NAME_SIZE]) {
	size_t n = strlen(name), head = strlen(SCOPE_PREFIX), tail = strlen(SCOPE);
	if (n <= head + tail || n >= UNIT_NAME_SIZE || strncmp(name, SCOPE_PREFIX, head) != 0 ||
	    !ends_with(name, SCOPE))
		return false;
	snprintf(ret_id, UNIT_NAME_SIZE, "%.*s", (int)(n - head - tail), name + head);
	return id_plain(ret_id);
}
