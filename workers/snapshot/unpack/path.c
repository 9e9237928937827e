#include "workers/snapshot/unpack/path.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

static int clean(char *path, bool clamp) {
	char *out = path;
	for (char *p = path; *p;) {
		char *end = strchrnul(p, '/');
		size_t n = (size_t)(end - p);
		char *next = *end ? end + 1 : end;
		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		if (n == 2 && p[0] == '.' && p[1] == '.') {
			if (out == path && !clamp)
				return -EXDEV;
			while (out > path && *--out != '/')
				continue;
		} else if (n > 0 && !(n == 1 && p[0] == '.')) {
			if (out > path)
				*out++ = '/';
			memmove(out, p, n);
			out += n;
		}
		p = next;
	}
	*out = '\0';
	return 0;
}

int path_clean(char *path) {
	return clean(path, false);
}

int path_clamp(char *path) {
	return clean(path, true);
}

const char *path_last(const char *path) {
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

enum path_kind path_kind(const char *last) {
	const size_t prefix = strlen(PATH_WHITEOUT_PREFIX);
	if (strncmp(last, PATH_WHITEOUT_PREFIX, prefix) != 0)
		return PATH_PLAIN;
	const char *name = last + prefix;
	if (strcmp(name, ".wh..opq") == 0)
		return PATH_OPAQUE;
	if (strncmp(name, PATH_WHITEOUT_PREFIX, prefix) == 0)
		return PATH_IGNORED;
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return PATH_BAD;
	return PATH_WHITEOUT;
}
