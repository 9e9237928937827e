#include "tests/unit/tap.h"
#include "workers/image/challenge.h"

#include <string.h>

static const struct {
	const char *value;
	enum challenge_scheme scheme;
	const char *realm, *service, *scope;
} cases[] = {
	{ "", CHALLENGE_NONE, "", "", "" },
	{ "Basic realm=\"x\"", CHALLENGE_BASIC, "x", "", "" },
	{ "basic", CHALLENGE_BASIC, "", "", "" },
	{ "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a/b:pull,push\"", CHALLENGE_BEARER,
	  "https://a/t", "s", "repository:a/b:pull,push" },
	{ "bearer REALM=\"https://a/t\" , Service=s", CHALLENGE_BEARER, "https://a/t", "s", "" },
	{ "Bearer realm=https://a/t,service=s", CHALLENGE_BEARER, "https://a/t", "s", "" },
	{ "Bearer service=\"s\"", CHALLENGE_NONE, "", "", "" },
	{ "Basic realm=\"x\", Bearer realm=\"https://y\"", CHALLENGE_BEARER, "https://y", "", "" },
	{ "Bearer realm=\"https://y\", Basic realm=\"x\"", CHALLENGE_BEARER, "https://y", "", "" },
	{ "Negotiate, Basic realm=\"x\"", CHALLENGE_BASIC, "x", "", "" },
	{ "Digest realm=\"d\", nonce=\"n\", Basic realm=\"x\"", CHALLENGE_BASIC, "x", "", "" },
	{ "Bearer realm=\"a\\\"b\"", CHALLENGE_BEARER, "a\"b", "", "" },
	{ "Bearer realm=\"open", CHALLENGE_NONE, "", "", "" },
	{ "Bearer realm=\"a\nb\"", CHALLENGE_NONE, "", "", "" },
	{ "Basic realm=\"x\", Bearer realm=\"open", CHALLENGE_BASIC, "x", "", "" },
	{ "=", CHALLENGE_NONE, "", "", "" },
	{ ",,, ,", CHALLENGE_NONE, "", "", "" },
	{ "\"", CHALLENGE_NONE, "", "", "" },
	{ "Bearer realm=\"\\", CHALLENGE_NONE, "", "", "" },
};

int main(void) {
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct challenge c = { 0 };
		challenge_parse(cases[i].value, &c);
		bool same = c.scheme == cases[i].scheme;
		if (same && c.scheme != CHALLENGE_NONE)
			same = !strcmp(c.realm, cases[i].realm) && !strcmp(c.service, cases[i].service) &&
			       !strcmp(c.scope, cases[i].scope);
		tap_check(same, "case %zu: %s", i, cases[i].value);
	}
	struct challenge c = { 0 };
	challenge_parse("Basic realm=\"one\"", &c);
	challenge_parse("Bearer realm=\"https://two\"", &c);
	challenge_parse("Basic realm=\"three\"", &c);
	tap_check(c.scheme == CHALLENGE_BEARER && !strcmp(c.realm, "https://two"), "the best of several headers");
	char longer[CHALLENGE_TEXT_MAX + 100] = "Bearer realm=\"";
	memset(longer + strlen(longer), 'x', CHALLENGE_TEXT_MAX);
	strcat(longer, "\"");
	c = (struct challenge){ 0 };
	challenge_parse(longer, &c);
	tap_check(c.scheme == CHALLENGE_NONE, "a realm that is too long isn't cut, but none");
	return tap_done();
}
