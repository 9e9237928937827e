/*
 * A machine runs images of its own architecture up to its own variant, the
 * highest preferred; a 64-bit machine of some families runs 32-bit ones too,
 * as the last choice.
 */
#include "platform.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const struct {
	const char *from, *to, *variant;
} synonyms[] = {
	{ "x86_64", "amd64", "" },   { "x86-64", "amd64", "" },
	{ "i386", "386", "" },	     { "i486", "386", "" },
	{ "i586", "386", "" },	     { "i686", "386", "" },
	{ "aarch64", "arm64", "" },  { "armhf", "arm", "v7" },
	{ "armv7l", "arm", "v7" },   { "armv8l", "arm", "v8" },
	{ "armel", "arm", "v6" },    { "armv6l", "arm", "v6" },
	{ "armv5tel", "arm", "v5" }, { "loongarch64", "loong64", "" },
};

/* What no variant means, and which other architecture runs there too. */
static const struct {
	const char *architecture;
	int variant; /* default */
	const char *also;
	int also_variant;
} families[] = {
	{ "amd64", 1, "386", 0 },
	{ "arm64", 8, "arm", 8 },
	{ "arm", 7, NULL, 0 },
};

static void copy(char *out, const char *text) {
	snprintf(out, PLATFORM_TEXT_MAX, "%s", text ? text : "");
}

struct platform platform_make(const char *os, const char *architecture, const char *variant) {
	struct platform p = { 0 };
	copy(p.os, os);
	copy(p.architecture, architecture);
	copy(p.variant, variant);
	for (size_t i = 0; i < ARRAY_SIZE(synonyms); i++)
		if (strcmp(p.architecture, synonyms[i].from) == 0) {
			copy(p.architecture, synonyms[i].to);
			if (!p.variant[0])
				copy(p.variant, synonyms[i].variant);
		}
	return p;
}

struct platform platform_host(void) {
	struct utsname u;
	return platform_make("linux", uname(&u) == 0 ? u.machine : "", "");
}

/* "v7" is 7, "8" is 8; empty is the family's default; -1 for others. */
static int variant_number(const struct platform *p) {
	const char *v = p->variant[0] == 'v' ? p->variant + 1 : p->variant;
	if (v[0] >= '1' && v[0] <= '9' && (v[1] == '\0' || v[1] == '.'))
		return v[0] - '0';
	if (p->variant[0])
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strcmp(families[i].architecture, p->architecture) == 0)
			return families[i].variant;
	return 0;
}

int platform_rank(const struct platform *wanted, const struct platform *offered) {
	if (strcmp(wanted->os, offered->os) != 0)
		return 0;
	int have = variant_number(offered);
	if (have < 0)
		return strcmp(wanted->architecture, offered->architecture) == 0 &&
		       strcmp(wanted->variant, offered->variant) == 0;
	if (strcmp(wanted->architecture, offered->architecture) == 0)
		return have <= variant_number(wanted) ? 100 + have : 0;
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strcmp(families[i].architecture, wanted->architecture) == 0 && families[i].also &&
		    strcmp(families[i].also, offered->architecture) == 0)
			return have <= families[i].also_variant ? 10 + have : 0;
	return 0;
}

void platform_text(const struct platform *p, char ret_text[3 * PLATFORM_TEXT_MAX + 3]) {
	snprintf(ret_text, 3 * PLATFORM_TEXT_MAX + 3, "%s/%s%s%s", p->os[0] ? p->os : "?",
		 p->architecture[0] ? p->architecture : "?", p->variant[0] ? "/" : "", p->variant);
}
