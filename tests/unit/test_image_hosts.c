#include "tests/unit/tap.h"
#include "workers/image/hosts.h"
#include "workers/image/toml.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static char dir[] = "/tmp/test_image_hosts.XXXXXX";

static int parse(const char *text, const char *registry, struct hosts *h, struct fault *f) {
	*f = (struct fault){ 0 };
	*h = (struct hosts){ 0 };
	return hosts_parse(text, strlen(text), dir, registry, h, f);
}

static void check_defaults(void) {
	static const struct {
		const char *registry, *base;
	} cases[] = {
		{ "docker.io", "https://registry-1.docker.io/v2" },
		{ "r.example", "https://r.example/v2" },
		{ "r.example:5000", "https://r.example:5000/v2" },
		{ "localhost", "http://localhost/v2" },
		{ "localhost:5000", "http://localhost:5000/v2" },
		{ "127.1.2.3:80", "http://127.1.2.3:80/v2" },
		{ "[::1]:5000", "http://[::1]:5000/v2" },
		{ "localhost.example", "https://localhost.example/v2" },
		{ "128.0.0.1", "https://128.0.0.1/v2" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hosts h;
		struct fault f;
		int r = parse("", cases[i].registry, &h, &f);
		tap_check(r == 0 && h.n == 1 && !strcmp(h.list[0].base, cases[i].base) && !h.list[0].mirror,
			  "%s is asked at %s", cases[i].registry, r == 0 ? h.list[0].base : f.text);
		hosts_deinit(&h);
	}
}

static const char full[] = "# comment\n"
			   "server = \"https://up.example\" # trailing\n"
			   "skip_verify = false\n"
			   "\n"
			   "[host.\"http://m1.example:8080\"]\n"
			   "  capabilities = [\"pull\",\n"
			   "    \"resolve\", # one per line\n"
			   "  ]\r\n"
			   "  dial_timeout = \"1m2s500ms\"\n"
			   "[host.\"http://m1.example:8080\".header]\n"
			   "  x-one = \"1\"\n"
			   "  \"X-Two\" = [\"a\", 'b\\c']\n"
			   "[host.'https://m2.example/path/v2']\n"
			   "  capabilities = [\"pull\"]\n"
			   "  skip_verify = true\n"
			   "  header = { \"Authorization\" = \"Bearer \\u0078\" }\n"
			   "[host.\"https://m3.example/api\"]\n"
			   "  override_path = true\n"
			   "  capabilities = []\n";

static void check_full(void) {
	struct hosts h;
	struct fault f;
	int r = parse(full, "r.example", &h, &f);
	tap_check(r == 0 && h.n == 4, "reads a full file (%s)", f.text);
	if (r < 0)
		return;
	tap_check(!strcmp(h.list[0].base, "http://m1.example:8080/v2") && h.list[0].mirror, "the first mirror");
	tap_check(h.list[0].capabilities == (HOST_PULL | HOST_RESOLVE), "its capabilities");
	tap_check(h.list[0].dial_timeout_ms == 62500, "its dial_timeout");
	tap_check(h.list[0].n_headers == 3 && !strcmp(h.list[0].headers[0], "x-one: 1") &&
		      !strcmp(h.list[0].headers[1], "X-Two: a") && !strcmp(h.list[0].headers[2], "X-Two: b\\c"),
		  "its headers");
	tap_check(!strcmp(h.list[1].base, "https://m2.example/path/v2") && h.list[1].skip_verify &&
		      h.list[1].capabilities == HOST_PULL,
		  "the second mirror keeps its /v2");
	tap_check(h.list[1].n_headers == 1 && !strcmp(h.list[1].headers[0], "Authorization: Bearer x"),
		  "a header from an inline table");
	tap_check(!strcmp(h.list[2].base, "https://m3.example/api") && h.list[2].capabilities == 0,
		  "override_path, and a host without capabilities");
	tap_check(!strcmp(h.list[3].base, "https://up.example/v2") && !h.list[3].mirror &&
		      h.list[3].capabilities == (HOST_PULL | HOST_RESOLVE | HOST_PUSH),
		  "the server comes last, with all capabilities");
	hosts_deinit(&h);
}

static void check_server_among_mirrors(void) {
	struct hosts h;
	struct fault f;
	int r = parse("[host.\"https://r.example\"]\n[host.\"https://m.example\"]\n", "r.example", &h, &f);
	tap_check(r == 0 && h.n == 2 && !h.list[0].mirror && h.list[1].mirror,
		  "a server that is named isn't asked twice");
	hosts_deinit(&h);
}

static const struct {
	const char *text, *says;
} bad[] = {
	{ "skip_verfy = true\n", "line 1: unknown key \"skip_verfy\"" },
	{ "\n\nskip_verify = \"yes\"\n", "line 3: \"skip_verify\" must be true or false" },
	{ "server = 5\n", "line 1: \"server\" must be a URL" },
	{ "server = \"ftp://x\"\n", "only http and https" },
	{ "server = \"https://\"\n", "isn't a URL" },
	{ "server = \"https://a@b\"\n", "isn't a URL" },
	{ "server = \"https://a/?x\"\n", "isn't a URL" },
	{ "server = \"https://a\\nb\"\n", "isn't a URL" },
	{ "capabilities = [\"fly\"]\n", "unknown capability" },
	{ "capabilities = \"pull\nx\"", "line 1: the string doesn't end" },
	{ "[host]\nx = 1\n", "must be a table" },
	{ "dial_timeout = \"5\"\n", "duration" },
	{ "dial_timeout = \"s\"\n", "duration" },
	{ "dial_timeout = \"99999999999999999999s\"\n", "duration" },
	{ "[[host]]\n", "arrays of tables" },
	{ "a = \"\"\"x\"\"\"\n", "several lines" },
	{ "a = 1.5\n", "line 1" },
	{ "a = 1979-05-27\n", "line 1" },
	{ "server = \"x\" junk\n", "unexpected text" },
	{ "server\n", "\"=\" is expected" },
	{ "[host.\"https://x\"\n", "\"]\"" },
	{ "ca = [\"a\" \"b\"]\n", "line 1" },
	{ "a = [[[[[1]]]]]\n", "line 1" },
	{ "a.b.c.d.e.f.g.h.i = 1\n", "nested too deeply" },
	{ "ca = \"missing.pem\"\n", "missing.pem" },
	{ "client = [[\"a\", \"b\", \"c\"]]\n", "client certificate" },
	{ "[header]\n\"bad name\" = \"x\"\n", "isn't a valid HTTP header" },
	{ "[header]\nx = \"a\\r\\nb: c\"\n", "isn't a valid HTTP header" },
	{ "x = [", "line 1" },
	{ "x = {", "line 1" },
	{ "x = { a = 1", "line 1" },
	{ "\"\\", "line 1" },
	{ "\"\\u12", "line 1" },
	{ "x = \"\\ud800\"", "\\u" },
};

static void check_bad(void) {
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct hosts h;
		struct fault f;
		int r = parse(bad[i].text, "r.example", &h, &f);
		tap_check(r < 0 && (strstr(f.text, bad[i].says)), "refuses case %zu: %s", i, f.text);
		hosts_deinit(&h);
	}
}

/* Every prefix and every change of one byte: it may be refused, not crash. */
static void check_torn(void) {
	char text[sizeof(full)];
	size_t accepted = 0;
	for (size_t n = 0; n < sizeof(full); n++) {
		struct hosts h = { 0 };
		struct fault f;
		accepted += hosts_parse(full, n, dir, "r.example", &h, &f) == 0;
		hosts_deinit(&h);
		for (unsigned c = 0; c < 256; c += 5) {
			memcpy(text, full, sizeof(full));
			text[n] = (char)c;
			if (hosts_parse(text, sizeof(full) - 1, dir, "r.example", &h, &f) == 0)
				hosts_deinit(&h);
		}
	}
	tap_check(accepted > 0, "torn and changed files are survived");
}

static void write_file(const char *name, const char *text) {
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/')); p++) {
		*p = '\0';
		mkdir(path, 0700);
		*p = '/';
	}
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || fd_write_all(fd, text, strlen(text)) < 0)
		abort();
}

static bool asks(const char *registry, const char *base) {
	struct hosts h = { 0 };
	struct fault f = { 0 };
	bool ok = hosts_load(dir, registry, &h, &f) == 0 && !strcmp(h.list[0].base, base);
	if (!ok)
		printf("# %s: %s %s\n", registry, f.text, h.n ? h.list[0].base : "");
	hosts_deinit(&h);
	return ok;
}

static void check_folders(void) {
	struct hosts h = { 0 };
	struct fault f;
	write_file("a.example_5000_/hosts.toml", "server = \"https://one\"\n");
	write_file("a.example:5000/hosts.toml", "server = \"https://two\"\n");
	write_file("b.example:5000/hosts.toml", "server = \"https://three\"\n");
	write_file("c.example/hosts.toml", "server = \"https://four\"\n");
	tap_check(asks("a.example:5000", "https://one/v2"), "HOST_PORT_ counts first");
	tap_check(asks("b.example:5000", "https://three/v2"), "then HOST:PORT");
	tap_check(asks("c.example:5000", "https://four/v2"), "then HOST");
	tap_check(asks("c.example", "https://four/v2"), "HOST without a port");
	tap_check(asks("d.example", "https://d.example/v2"), "nothing there: the registry itself");
	write_file("_default/hosts.toml", "[host.\"https://five\"]\n");
	tap_check(asks("d.example", "https://five/v2"), "_default for all others");
	write_file("e.example/hosts.toml", "nonsense");
	tap_check(hosts_load(dir, "e.example", &h, &f) < 0 && strstr(f.text, "e.example/hosts.toml\": line 1"),
		  "a bad file is named: %s", f.text);
	write_file("f.example/ca.crt", "-----BEGIN CERTIFICATE-----\n");
	tap_check(hosts_load(dir, "f.example", &h, &f) == 0 && h.list[0].ca_pem.size > 0, "docker's ca.crt is read");
	hosts_deinit(&h);
	write_file("g.example/ca.pem", "PEM");
	write_file("g.example/hosts.toml", "ca = [\"ca.pem\"]\nclient = [[\"ca.pem\", \"ca.pem\"]]\n");
	tap_check(hosts_load(dir, "g.example", &h, &f) == 0 && h.list[0].ca_pem.size == 4 && h.list[0].client_key,
		  "relative paths start at the file");
	hosts_deinit(&h);
}

int main(void) {
	if (!mkdtemp(dir))
		return 1;
	check_defaults();
	check_full();
	check_server_among_mirrors();
	check_bad();
	check_torn();
	check_folders();
	char command[64];
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	tap_check(system(command) == 0, "cleans up");
	return tap_done();
}
