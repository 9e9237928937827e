#include "tests/unit/tap.h"
#include "workers/image/platform.h"

#include <string.h>

static struct platform make(const char *text) {
	char copy[100], *os = copy, *arch, *variant;
	strcpy(copy, text);
	arch = strchr(os, '/');
	*arch++ = '\0';
	variant = strchr(arch, '/');
	if (variant)
		*variant++ = '\0';
	return platform_make(os, arch, variant);
}

static int rank(const char *wanted, const char *offered) {
	struct platform w = make(wanted), o = make(offered);
	return platform_rank(&w, &o);
}

static const struct {
	const char *wanted, *offered;
	bool runs;
} cases[] = {
	{ "linux/amd64", "linux/amd64", true },
	{ "linux/x86_64", "linux/amd64", true },
	{ "linux/amd64", "linux/amd64/v1", true },
	{ "linux/amd64", "linux/amd64/v3", false },
	{ "linux/amd64/v3", "linux/amd64/v2", true },
	{ "linux/amd64", "linux/386", true },
	{ "linux/386", "linux/amd64", false },
	{ "linux/amd64", "windows/amd64", false },
	{ "linux/amd64", "linux/arm64", false },
	{ "linux/aarch64", "linux/arm64/v8", true },
	{ "linux/arm64", "linux/arm64", true },
	{ "linux/arm64", "linux/arm/v7", true },
	{ "linux/arm/v7", "linux/arm64", false },
	{ "linux/arm/v7", "linux/arm/v7", true },
	{ "linux/arm/v7", "linux/arm/v6", true },
	{ "linux/arm/v6", "linux/arm/v7", false },
	{ "linux/arm", "linux/arm/v7", true },
	{ "linux/armv6l", "linux/arm/v5", true },
	{ "linux/armv6l", "linux/arm", false },
	{ "linux/s390x", "linux/s390x", true },
	{ "linux/riscv64/odd", "linux/riscv64/odd", true },
	{ "linux/riscv64", "linux/riscv64/odd", false },
	{ "linux/amd64", "unknown/unknown", false },
};

int main(void) {
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		tap_check((rank(cases[i].wanted, cases[i].offered) > 0) == cases[i].runs, "%s %s on %s",
			  cases[i].offered, cases[i].runs ? "runs" : "doesn't run", cases[i].wanted);
	tap_check(rank("linux/arm/v7", "linux/arm/v7") > rank("linux/arm/v7", "linux/arm/v6"), "v7 before v6");
	tap_check(rank("linux/arm64", "linux/arm64") > rank("linux/arm64", "linux/arm/v8"), "64 bits before 32");
	tap_check(rank("linux/amd64", "linux/amd64") > rank("linux/amd64", "linux/386"), "amd64 before 386");
	struct platform p = platform_make("linux", "a-name-that-is-much-longer-than-any-architecture", NULL);
	struct platform q = platform_host();
	tap_check(strlen(p.architecture) < PLATFORM_TEXT_MAX && platform_rank(&q, &p) == 0, "a long name is cut");
	char text[3 * PLATFORM_TEXT_MAX + 3];
	p = make("linux/armhf");
	platform_text(&p, text);
	tap_check(!strcmp(text, "linux/arm/v7"), "as text: %s", text);
	return tap_done();
}
