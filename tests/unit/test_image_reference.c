#include "tests/unit/tap.h"
#include "workers/image/reference.h"

#include <string.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define D "sha256:" HEX64

static const struct {
	const char *text, *host, *path, *tag, *digest;
} good[] = {
	{ "busybox", "docker.io", "library/busybox", "latest", "" },
	{ "busybox:1.36", "docker.io", "library/busybox", "1.36", "" },
	{ "a/b", "docker.io", "a/b", "latest", "" },
	{ "docker.io/busybox", "docker.io", "library/busybox", "latest", "" },
	{ "index.docker.io/busybox", "docker.io", "library/busybox", "latest", "" },
	{ "docker.io/a/b:c", "docker.io", "a/b", "c", "" },
	{ "localhost/x", "localhost", "x", "latest", "" },
	{ "localhost:5000/x:y", "localhost:5000", "x", "y", "" },
	{ "127.0.0.1:5000/a/b/c:d", "127.0.0.1:5000", "a/b/c", "d", "" },
	{ "[::1]:5000/x", "[::1]:5000", "x", "latest", "" },
	{ "Host/x", "Host", "x", "latest", "" },
	{ "r.example/a.b/c_d/e__f/g---h", "r.example", "a.b/c_d/e__f/g---h", "latest", "" },
	{ "x@" D, "docker.io", "library/x", "", D },
	{ "r.example/x:tag@" D, "r.example", "x", "", D },
	{ "x:_A.b-c", "docker.io", "library/x", "_A.b-c", "" },
	{ "localhosts/x", "docker.io", "localhosts/x", "latest", "" },
};

static const char *const bad[] = {
	"",
	":tag",
	"x:",
	"x:.t",
	"x:-t",
	"x:a b",
	"x@",
	"x@sha256:12",
	"x@sha512:" HEX64 HEX64,
	"x@" D "0",
	HEX64,
	"X",
	"a//b",
	"/a",
	"a/",
	"a/./b",
	"a/../b",
	"a..b",
	"a._b",
	"-a",
	"a-",
	"a___b",
	"r.example:0/x",
	"r.example:65536/x",
	"r.example:12a/x",
	"r.example:/x",
	"-r.example/x",
	"r-.example/x",
	"r..example/x",
	".example/x",
	"r.example./x",
	"[::1/x",
	"[gg::1]:5/x",
	"r.example/x y",
	"r.example/x\n",
	"r.example/x?y=z",
	"r.example/x#y",
	"user@r.example/x",
	"r.example@/x",
	"https://r.example/x",
	"r.example/\xc3\xa4",
};

static void check_good(void) {
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct reference r;
		struct fault f = { 0 };
		int e = reference_parse(good[i].text, &r, &f);
		tap_check(e == 0 && !strcmp(r.host, good[i].host) && !strcmp(r.path, good[i].path) &&
			      !strcmp(r.tag, good[i].tag) && !strcmp(r.digest, good[i].digest),
			  "reads %s (%s)", good[i].text, f.text);
	}
}

static void check_bad(void) {
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct reference r = { .host = "untouched" };
		struct fault f = { 0 };
		int e = reference_parse(bad[i], &r, &f);
		tap_check(e < 0 && f.code == FAULT_INVALID_ARGUMENT && f.text[0] && !strcmp(r.host, "untouched"),
			  "refuses case %zu: %s", i, f.text);
	}
}

static void check_lengths(void) {
	char text[2000];
	struct reference r;
	struct fault f;
	for (size_t n = 1; n < sizeof(text); n++) {
		memset(text, 'a', n);
		text[n] = '\0';
		/* docker.io/library/ and the name are at most 255 together. */
		bool fits = n + strlen("docker.io/library/") <= 255 && n != 64;
		if ((reference_parse(text, &r, &f) == 0) != fits) {
			tap_check(false, "a name of %zu characters", n);
			return;
		}
	}
	tap_check(true, "names up to 255 characters");
	memcpy(text, "x:", 2);
	memset(text + 2, 't', 129);
	text[2 + 128] = '\0';
	tap_check(reference_parse(text, &r, &f) == 0, "a tag of 128 characters");
	text[2 + 128] = 't';
	text[2 + 129] = '\0';
	tap_check(reference_parse(text, &r, &f) < 0, "no tag of 129 characters");
}

int main(void) {
	check_good();
	check_bad();
	check_lengths();
	return tap_done();
}
