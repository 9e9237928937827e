#include "workers/metadata/reference.h"

#include "base/id.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_HOST "docker.io"
#define DEFAULT_PATH "library/"
#define ALNUM_LOWER "abcdefghijklmnopqrstuvwxyz0123456789"
#define ALNUM ALNUM_LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* The first component is a host when it looks like none of a path could. */
static bool is_host(const char *text, size_t n) {
	return memchr(text, '.', n) || memchr(text, ':', n) || (n == 9 && memcmp(text, "localhost", 9) == 0);
}

static bool host_valid(const char *host, size_t n) {
	return n > 0 && strspn(host, ALNUM ".-:[]") >= n;
}

/* Lower-case words joined by ".", "_", "__" or dashes, folders by "/". */
static bool path_valid(const char *path) {
	if (!*path)
		return false;
	for (const char *p = path;;) {
		size_t n = strspn(p, ALNUM_LOWER);
		if (n == 0)
			return false;
		p += n;
		if (!*p)
			return true;
		size_t joint = *p == '-' ? strspn(p, "-") : *p == '_' ? strspn(p, "_") : 1;
		if (!strchr("/._-", *p) || (*p == '_' && joint > 2))
			return false;
		p += joint;
	}
}

static bool tag_valid(const char *tag) {
	size_t n = strlen(tag);
	return n > 0 && n <= 128 && strspn(tag, ALNUM "_.-") == n && !strchr(".-", tag[0]);
}

int reference_parse(const char *text, struct reference *ret_ref, struct fault *fault) {
	struct reference ref = { 0 };
	char rest[REFERENCE_MAX];
	if (strlen(text) >= sizeof(rest) - sizeof(DEFAULT_HOST "/" DEFAULT_PATH))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "image reference \"%.64s...\" is too long", text);
	strcpy(rest, text);
	char *at = strchr(rest, '@');
	if (at) {
		*at = '\0';
		if (!digest_valid(at + 1))
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "image reference \"%s\": \"%s\" is no sha256 digest", text, at + 1);
		strcpy(ref.digest, at + 1);
	}
	char *slash = strrchr(rest, '/'), *colon = strrchr(slash ? slash : rest, ':');
	if (colon) {
		*colon = '\0';
		if (!tag_valid(colon + 1))
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "image reference \"%s\": \"%s\" is no valid tag", text, colon + 1);
		if (!at)
			strcpy(ref.tag, colon + 1);
	} else if (!at)
		strcpy(ref.tag, "latest");

	slash = strchr(rest, '/');
	size_t host = slash ? (size_t)(slash - rest) : 0;
	bool named = slash && is_host(rest, host);
	const char *path = named ? slash + 1 : rest;
	if ((named && !host_valid(rest, host)) || !path_valid(path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "\"%s\" is no image reference: [host[:port]/]path[:tag][@digest] in lower case", text);
	/* The first registry goes by two names and lets its folder be left out. */
	bool dockers = !named || strncmp(rest, DEFAULT_HOST "/", sizeof(DEFAULT_HOST)) == 0 ||
		       strncmp(rest, "index." DEFAULT_HOST "/", sizeof("index." DEFAULT_HOST)) == 0;
	if (dockers)
		snprintf(ref.repository, sizeof(ref.repository), DEFAULT_HOST "/%s%s",
			 strchr(path, '/') ? "" : DEFAULT_PATH, path);
	else
		strcpy(ref.repository, rest);
	*ret_ref = ref;
	return 0;
}

void reference_format(const struct reference *ref, char *ret_text, size_t size) {
	snprintf(ret_text, size, "%s%s%s", ref->repository, ref->digest[0] ? "@" : ":",
		 ref->digest[0] ? ref->digest : ref->tag);
}
