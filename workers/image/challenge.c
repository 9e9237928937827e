/*
 * challenge = scheme [ 1*SP ( token68 / #auth-param ) ], separated by commas
 * that also separate the parameters: a token that isn't followed by "=" starts
 * the next challenge.
 */
#include "challenge.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static bool token_char(char c) {
	return c && (isalnum((unsigned char)c) || strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip(const char *p) {
	while (*p == ' ' || *p == '\t' || *p == ',')
		p++;
	return p;
}

static const char *blanks(const char *p) {
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

static const char *token(const char *p, char *out, size_t size) {
	size_t n = 0;
	for (; token_char(*p); p++)
		if (n + 1 < size)
			out[n++] = *p;
	out[n] = '\0';
	return p;
}

/* A quoted string or a token; NULL when it is malformed or too long. */
static const char *parameter(const char *p, char *out, size_t size) {
	size_t n = 0;
	if (*p != '"') {
		/* Unquoted URLs are seen in the wild: up to the next comma or blank. */
		for (; *p && !strchr(" \t,\"", *p); p++) {
			if ((unsigned char)*p < 0x20 || *p == 0x7f || n + 1 >= size)
				return NULL;
			out[n++] = *p;
		}
		out[n] = '\0';
		return p;
	}
	for (p++; *p != '"'; p++) {
		if (*p == '\\')
			p++;
		if ((unsigned char)*p < 0x20 || *p == 0x7f || n + 1 >= size)
			return NULL;
		out[n++] = *p;
	}
	out[n] = '\0';
	return p + 1;
}

static void assign(struct challenge *c, const char *name, const char *value) {
	static const struct {
		const char *name;
		size_t offset, size;
	} fields[] = {
		{ "realm", offsetof(struct challenge, realm), CHALLENGE_TEXT_MAX },
		{ "service", offsetof(struct challenge, service), CHALLENGE_TEXT_MAX },
		{ "scope", offsetof(struct challenge, scope), CHALLENGE_TEXT_MAX },
		{ "error", offsetof(struct challenge, error), sizeof(((struct challenge *)0)->error) },
	};
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (strcasecmp(name, fields[i].name) == 0 && strlen(value) < fields[i].size)
			strcpy((char *)c + fields[i].offset, value);
}

static void keep_better(struct challenge *best, const struct challenge *c) {
	if (c->scheme == CHALLENGE_BEARER && !c->realm[0])
		return;
	if (c->scheme > best->scheme)
		*best = *c;
}

void challenge_parse(const char *value, struct challenge *best) {
	struct challenge c = { 0 };
	char name[64], text[CHALLENGE_TEXT_MAX];
	const char *p = skip(value);
	while (*p) {
		p = token(p, name, sizeof(name));
		if (!name[0])
			break;
		const char *after = blanks(p);
		if (*after == '=') {
			p = parameter(blanks(after + 1), text, sizeof(text));
			if (!p)
				break;
			assign(&c, name, text);
		} else {
			keep_better(best, &c);
			c = (struct challenge){ 0 };
			c.scheme = strcasecmp(name, "Bearer") == 0  ? CHALLENGE_BEARER
				   : strcasecmp(name, "Basic") == 0 ? CHALLENGE_BASIC
								    : CHALLENGE_NONE;
			p = after;
		}
		p = skip(p);
	}
	keep_better(best, &c);
}
