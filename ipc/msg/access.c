#include "msg/access.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct {
	const char *name, *phrase;
} levels[ACCESS_COUNT] = {
	[ACCESS_NONE] = { .name = "none", .phrase = "has no access" },
	[ACCESS_METRICS] = { .name = "metrics", .phrase = "is for metrics only" },
	[ACCESS_READ_ONLY] = { .name = "read-only", .phrase = "is read-only" },
	[ACCESS_FULL] = { .name = "full", .phrase = "has full access" },
};

const char *link_access_name(enum link_access access) {
	return (unsigned)access < ACCESS_COUNT ? levels[access].name : NULL;
}

const char *link_access_phrase(enum link_access access) {
	return levels[access].phrase;
}

int link_access_parse(const char *text, enum link_access *ret_access) {
	for (enum link_access a = ACCESS_METRICS; a < ACCESS_COUNT; a++)
		if (strcmp(levels[a].name, text) == 0) {
			*ret_access = a;
			return 0;
		}
	return -EINVAL;
}
