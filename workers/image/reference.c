/*
 * The grammar of image references, as the field's tools agree on it. Checked
 * from the end to the front: digest, tag, host, path; what is left must be
 * empty.
 */
#include "reference.h"

#include <ctype.h>
#include <string.h>

#define TEXT_MAX (REFERENCE_NAME_MAX + REFERENCE_TAG_MAX + 2 + DIGEST_SIZE)
#define DEFAULT_HOST "docker.io"

static bool lower_alnum(char c) {
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
static bool alnum(char c) {
	return lower_alnum(c) || (c >= 'A' && c <= 'Z');
}

static bool tag_valid(const char *tag) {
	size_t n = strlen(tag);
	if (n == 0 || n > REFERENCE_TAG_MAX || !(alnum(tag[0]) || tag[0] == '_'))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!alnum(tag[i]) && !strchr("_.-", tag[i]))
			return false;
	return true;
}

/* alnum+, joined by one dot, one or two underscores, or any number of dashes. */
static bool component_valid(const char *p, size_t n) {
	size_t i = 0;
	for (;;) {
		size_t start = i;
		while (i < n && lower_alnum(p[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (p[i] == '.')
			i++;
		else if (p[i] == '_')
			i += i + 1 < n && p[i + 1] == '_' ? 2 : 1;
		else if (p[i] == '-')
			while (i < n && p[i] == '-')
				i++;
		else
			return false;
	}
}

static bool path_valid(const char *path) {
	for (;;) {
		size_t n = strcspn(path, "/");
		if (!component_valid(path, n))
			return false;
		if (path[n] == '\0')
			return true;
		path += n + 1;
	}
}

/* Labels of letters, digits and inner dashes; or an IPv6 address in brackets. */
static bool host_name_valid(const char *p, size_t n) {
	if (n > 2 && p[0] == '[' && p[n - 1] == ']') {
		for (size_t i = 1; i < n - 1; i++)
			if (!isxdigit((unsigned char)p[i]) && p[i] != ':' && p[i] != '.')
				return false;
		return true;
	}
	bool start = true;
	for (size_t i = 0; i < n; i++) {
		bool last = i + 1 == n || p[i + 1] == '.';
		if (alnum(p[i]))
			start = false;
		else if (p[i] == '.' && !start)
			start = true;
		else if (p[i] != '-' || start || last)
			return false;
	}
	return n > 0 && !start;
}

static bool host_valid(const char *host) {
	const char *end = host[0] == '[' ? strchr(host, ']') : host;
	const char *colon = end ? strchr(end, ':') : NULL;
	size_t n = colon ? (size_t)(colon - host) : strlen(host);
	if (!host_name_valid(host, n))
		return false;
	if (!colon)
		return true;
	size_t digits = strspn(colon + 1, "0123456789");
	return digits > 0 && digits <= 5 && colon[1 + digits] == '\0' && atoi(colon + 1) > 0 &&
	       atoi(colon + 1) <= 65535;
}

static bool looks_like_host(const char *p, size_t n) {
	if (n == strlen("localhost") && memcmp(p, "localhost", n) == 0)
		return true;
	for (size_t i = 0; i < n; i++)
		if (p[i] == '.' || p[i] == ':' || (p[i] >= 'A' && p[i] <= 'Z'))
			return true;
	return false;
}

static int bad(struct fault *fault, const char *text, const char *why) {
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "image reference \"%.200s\": %s", text, why);
}

static int split_digest(char *rest, const char *text, struct reference *r, struct fault *fault) {
	char *at = strchr(rest, '@');
	if (!at)
		return 0;
	*at++ = '\0';
	if (!digest_valid(at)) {
		if (strncmp(at, "sha256:", 7) != 0 && strchr(at, ':'))
			return bad(fault, text, "only sha256 digests are supported");
		return bad(fault, text, "the digest must be \"sha256:\" and 64 lower-case hexadecimal digits");
	}
	memcpy(r->digest, at, DIGEST_SIZE);
	return 0;
}

static int split_tag(char *rest, const char *text, struct reference *r, struct fault *fault) {
	char *slash = strrchr(rest, '/');
	char *colon = strrchr(slash ? slash : rest, ':');
	if (!colon)
		return 0;
	*colon++ = '\0';
	if (!tag_valid(colon))
		return bad(fault, text,
			   "a tag is at most 128 of A-Z a-z 0-9 _ . - and starts with none of the last two");
	/* With both, the digest says which image it is. */
	if (!r->digest[0])
		strcpy(r->tag, colon);
	return 0;
}

static int split_name(const char *rest, const char *text, struct reference *r, struct fault *fault) {
	const char *slash = strchr(rest, '/');
	if (slash && looks_like_host(rest, (size_t)(slash - rest))) {
		memcpy(r->host, rest, (size_t)(slash - rest));
		rest = slash + 1;
	} else {
		strcpy(r->host, DEFAULT_HOST);
	}
	if (strcmp(r->host, "index.docker.io") == 0)
		strcpy(r->host, DEFAULT_HOST);
	bool official = strcmp(r->host, DEFAULT_HOST) == 0 && !strchr(rest, '/');
	const char *prefix = official ? "library/" : "";
	if (strlen(r->host) + 1 + strlen(prefix) + strlen(rest) > REFERENCE_NAME_MAX)
		return bad(fault, text, "the name is longer than 255 characters");
	strcpy(r->path, prefix);
	strcat(r->path, rest);
	if (!host_valid(r->host))
		return bad(fault, text, "the registry must be a host name or address with an optional port");
	if (!path_valid(r->path))
		return bad(
		    fault, text,
		    "a repository is made of lower-case letters, digits and single separators (. _ __ -), joined by /");
	return 0;
}

int reference_parse(const char *text, struct reference *ret_reference, struct fault *fault) {
	struct reference r = { 0 };
	char rest[TEXT_MAX + 1];
	if (text[0] == '\0')
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the image reference is empty");
	if (strlen(text) > TEXT_MAX)
		return bad(fault, text, "it is too long");
	strcpy(rest, text);
	if (strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64)
		return bad(fault, text, "that is an image's id; a registry knows names only");
	int e = split_digest(rest, text, &r, fault);
	if (e < 0)
		return e;
	e = split_tag(rest, text, &r, fault);
	if (e < 0)
		return e;
	e = split_name(rest, text, &r, fault);
	if (e < 0)
		return e;
	if (!r.digest[0] && !r.tag[0])
		strcpy(r.tag, "latest");
	*ret_reference = r;
	return 0;
}
