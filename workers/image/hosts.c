/*
 * hosts.toml as a table of keys. Top-level keys describe the server, those of
 * [host."URL"] a mirror; both go through the same rows. Unknown keys are an
 * error: a misspelt skip_verify must not pass in silence.
 */
#include "hosts.h"

#include "base/fd.h"
#include "toml.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define FILE_MAX (64 * 1024)
#define PEM_MAX (1024 * 1024)

struct reading {
	struct hosts hosts; /* mirrors; the server is appended at the end */
	struct host server;
	const char *dir;
};

static void host_deinit(struct host *h) {
	free(h->base);
	free(h->label);
	free(h->client_cert);
	free(h->client_key);
	buffer_deinit(&h->ca_pem);
	for (size_t i = 0; i < h->n_headers; i++)
		free(h->headers[i]);
	*h = (struct host){ 0 };
}

void hosts_plain(struct hosts *h) {
	for (size_t i = 0; i < h->n; i++) {
		char *base = h->list[i].base;
		if (!h->list[i].mirror && strncmp(base, "https://", 8) == 0)
			memmove(base + 4, base + 5, strlen(base + 5) + 1);
	}
}

void hosts_deinit(struct hosts *h) {
	for (size_t i = 0; i < h->n; i++)
		host_deinit(&h->list[i]);
	h->n = 0;
}

bool host_is_loopback(const char *host) {
	char name[256];
	struct in_addr v4;
	struct in6_addr v6;
	const char *end = host[0] == '[' ? strchr(host, ']') : strchr(host, ':');
	const char *start = host[0] == '[' ? host + 1 : host;
	size_t n = end ? (size_t)(end - start) : strlen(start);
	if (n >= sizeof(name))
		return false;
	memcpy(name, start, n);
	name[n] = '\0';
	if (inet_pton(AF_INET, name, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, name, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcmp(name, "localhost") == 0;
}

/* --- values ---------------------------------------------------------------- */

/* Paths in the file count from the file's folder. */
static char *path_from(const char *dir, const char *path) {
	char *full = NULL;
	if (path[0] == '/')
		return strdup(path);
	return asprintf(&full, "%s/%s", dir, path) < 0 ? NULL : full;
}

static int read_pem(const char *path, struct buffer *pem, struct fault *fault) {
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_FREE char *data = NULL;
	size_t size;
	int r = fd < 0 ? -errno : fd_read_all(fd, PEM_MAX, &data, &size);
	if (r < 0)
		return fault_errno(fault, r,
				   "certificate \"%s\" (the image worker, uid %d, must see and read it: keep it below "
				   "the certs.d folder)",
				   path, (int)getuid());
	buffer_add(pem, data, size);
	buffer_add(pem, "\n", 1);
	return pem->failed ? fault_errno(fault, ENOMEM, "certificate \"%s\"", path) : 0;
}

static int check_readable(const char *path, struct fault *fault) {
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return fault_errno(fault, errno,
				   "client certificate \"%s\" (the image worker, uid %d, must see and read it: keep it "
				   "below the certs.d folder)",
				   path, (int)getuid());
	return 0;
}

static int expect(const struct toml_event *e, enum toml_kind kind, const char *what, struct fault *fault) {
	if (e->kind == kind)
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" must be %s", e->path[e->n_path - 1], what);
}

static int set_capabilities(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault) {
	static const struct {
		const char *name;
		unsigned bit;
	} names[] = { { "pull", HOST_PULL }, { "resolve", HOST_RESOLVE }, { "push", HOST_PUSH } };
	if (e->kind == TOML_ARRAY && e->n_indexes == 0) {
		h->capabilities = 0;
		return 0;
	}
	int r = expect(e, TOML_STRING, "a list of strings", fault);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(e->string, names[i].name) == 0) {
			h->capabilities |= names[i].bit;
			return 0;
		}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown capability \"%s\": pull, resolve and push are known",
			 e->string);
}

static int set_ca(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault) {
	if (e->kind == TOML_ARRAY && e->n_indexes == 0)
		return 0;
	int r = expect(e, TOML_STRING, "a path or a list of paths", fault);
	if (r < 0)
		return r;
	CLEANUP_FREE char *path = path_from(g->dir, e->string);
	return path ? read_pem(path, &h->ca_pem, fault) : fault_errno(fault, ENOMEM, "ca");
}

/* "both.pem", ["both.pem"] or [["cert", "key"]]; the first pair is used. */
static int set_client(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault) {
	if (e->kind == TOML_ARRAY)
		return 0;
	int r = expect(e, TOML_STRING, "a path, a list of paths or a list of [certificate, key]", fault);
	if (r < 0)
		return r;
	bool is_key = e->n_indexes == 2 && e->index[1] == 1;
	if (e->index[0] > 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"client\" can have one certificate only");
	if (e->n_indexes > 2 || e->index[1] > 1 || (is_key ? h->client_key : h->client_cert))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"client\" must be a path or [[certificate, key]]");
	char *path = path_from(g->dir, e->string);
	if (!path)
		return fault_errno(fault, ENOMEM, "client");
	*(is_key ? &h->client_key : &h->client_cert) = path;
	return check_readable(path, fault);
}

static int set_skip_verify(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault) {
	h->skip_verify = e->boolean;
	return expect(e, TOML_BOOL, "true or false", fault);
}

static int set_override_path(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault) {
	h->override_path = e->boolean;
	return expect(e, TOML_BOOL, "true or false", fault);
}

/* Durations as Go writes them: "1m30s", "500ms". */
static int set_dial_timeout(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault) {
	static const struct {
		const char *unit;
		long ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	int r = expect(e, TOML_STRING, "a duration like \"5s\"", fault);
	if (r < 0)
		return r;
	const char *p = e->string;
	long total = 0;
	while (*p) {
		char *end;
		long n = isdigit((unsigned char)*p) ? strtol(p, &end, 10) : -1;
		size_t unit = n < 0 ? 0 : strspn(end, "hms"), i;
		for (i = 0; i < ARRAY_SIZE(units); i++)
			if (n >= 0 && n <= 86400000 && strlen(units[i].unit) == unit &&
			    strncmp(end, units[i].unit, unit) == 0)
				break;
		if (i == ARRAY_SIZE(units) || total > 86400000)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "\"dial_timeout\" must be a duration like \"5s\"");
		total += n * units[i].ms;
		p = end + unit;
	}
	h->dial_timeout_ms = MIN(total, 86400000L);
	return 0;
}

static bool header_token(const char *p) {
	if (!*p)
		return false;
	for (; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	return true;
}

static int add_header(struct host *h, const char *name, const struct toml_event *e, struct fault *fault) {
	if (e->kind == TOML_ARRAY)
		return 0;
	int r = expect(e, TOML_STRING, "a string or a list of strings", fault);
	if (r < 0)
		return r;
	if (!header_token(name) || strpbrk(e->string, "\r\n"))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "header \"%s\" isn't a valid HTTP header", name);
	if (h->n_headers == HOST_HEADERS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d headers", HOST_HEADERS_MAX);
	/* ";" is how libcurl is told of a header without a value. */
	if (asprintf(&h->headers[h->n_headers], e->string[0] ? "%s: %s" : "%s;", name, e->string) < 0) {
		h->headers[h->n_headers] = NULL;
		return fault_errno(fault, ENOMEM, "header");
	}
	h->n_headers++;
	return 0;
}

static const struct {
	const char *key;
	int (*set)(struct reading *g, struct host *h, const struct toml_event *e, struct fault *fault);
} keys[] = {
	{ "capabilities", set_capabilities },
	{ "ca", set_ca },
	{ "client", set_client },
	{ "skip_verify", set_skip_verify },
	{ "override_path", set_override_path },
	{ "dial_timeout", set_dial_timeout },
};

/* --- URLs ------------------------------------------------------------------ */

/* Splits "[scheme://]authority[/path]"; the authority is checked for bytes
 * that could end it early. */
static int set_url(struct host *h, const char *url, struct fault *fault) {
	const char *scheme = "https://", *rest = url;
	if (strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0) {
		scheme = url[4] == 's' ? "https://" : "http://";
		rest = url + strlen(scheme);
	} else if (strstr(url, "://")) {
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\": only http and https are known", url);
	} else if (host_is_loopback(url)) {
		scheme = "http://";
	}
	size_t n = strcspn(rest, "/");
	size_t good = strspn(rest, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]");
	if (n == 0 || good < n || strpbrk(rest, " ?#@\\\"<>\r\n\t"))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "\"%s\" isn't a URL of the form https://HOST[:PORT][/PATH]", url);
	free(h->base);
	free(h->label);
	h->label = strndup(rest, n);
	if (asprintf(&h->base, "%s%s", scheme, rest) < 0)
		h->base = NULL;
	return h->base && h->label ? 0 : fault_errno(fault, ENOMEM, "host");
}

/* The API's root: /v2 unless the URL has it or override_path says otherwise. */
static int finish_url(struct host *h, struct fault *fault) {
	size_t n = strlen(h->base);
	while (n > 0 && h->base[n - 1] == '/')
		h->base[--n] = '\0';
	const char *path = strchr(strstr(h->base, "://") + 3, '/');
	bool has = path && strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/v2") == 0;
	if (h->override_path || has)
		return 0;
	char *base;
	if (asprintf(&base, "%s/v2", h->base) < 0)
		return fault_errno(fault, ENOMEM, "host");
	free(h->base);
	h->base = base;
	return 0;
}

/* --- the file -------------------------------------------------------------- */

static int find_mirror(struct reading *g, const char *url, struct host **ret_host, struct fault *fault) {
	struct host probe = { 0 };
	int r = set_url(&probe, url, fault);
	for (size_t i = 0; r == 0 && i < g->hosts.n; i++)
		if (strcmp(g->hosts.list[i].base, probe.base) == 0) {
			host_deinit(&probe);
			*ret_host = &g->hosts.list[i];
			return 0;
		}
	if (r == 0 && g->hosts.n == HOSTS_MAX - 1)
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d hosts", HOSTS_MAX - 1);
	if (r < 0) {
		host_deinit(&probe);
		return r;
	}
	probe.mirror = true;
	probe.capabilities = HOST_PULL | HOST_RESOLVE | HOST_PUSH;
	g->hosts.list[g->hosts.n] = probe;
	*ret_host = &g->hosts.list[g->hosts.n++];
	return 0;
}

static int on_event(void *ctx, const struct toml_event *e, struct fault *fault) {
	struct reading *g = ctx;
	struct host *h = &g->server;
	const char *const *path = e->path;
	size_t n = e->n_path;
	if (strcmp(path[0], "host") == 0) {
		if (n == 1)
			return expect(e, TOML_TABLE, "a table: [host.\"https://mirror.example\"]", fault);
		int r = find_mirror(g, path[1], &h, fault);
		if (r < 0 || n == 2)
			return r < 0 ? r : expect(e, TOML_TABLE, "a table", fault);
		path += 2;
		n -= 2;
	} else if (n == 1 && strcmp(path[0], "server") == 0) {
		int r = expect(e, TOML_STRING, "a URL", fault);
		return r < 0 ? r : set_url(h, e->string, fault);
	}
	if (n == 2 && strcmp(path[0], "header") == 0)
		return add_header(h, path[1], e, fault);
	if (n == 1 && strcmp(path[0], "header") == 0)
		return expect(e, TOML_TABLE, "a table", fault);
	for (size_t i = 0; n == 1 && i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i].key, path[0]) == 0)
			return keys[i].set(g, h, e, fault);
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown key \"%s\"", path[n - 1]);
}

static int server_default(struct host *server, const char *registry, struct fault *fault) {
	server->capabilities = HOST_PULL | HOST_RESOLVE | HOST_PUSH;
	return set_url(server, strcmp(registry, "docker.io") == 0 ? "registry-1.docker.io" : registry, fault);
}

/* The server is asked last, unless the file names it among the mirrors. */
static int finish(struct reading *g, struct fault *fault) {
	bool named = false;
	int r = finish_url(&g->server, fault);
	for (size_t i = 0; r == 0 && i < g->hosts.n; i++) {
		struct host *h = &g->hosts.list[i];
		r = finish_url(h, fault);
		if (r == 0 && strcmp(h->base, g->server.base) == 0) {
			named = true;
			h->mirror = false;
		}
	}
	if (r < 0)
		return r;
	if (!named) {
		g->hosts.list[g->hosts.n++] = g->server;
		g->server = (struct host){ 0 };
	}
	return 0;
}

int hosts_parse(const char *text, size_t size, const char *dir, const char *registry, struct hosts *ret_hosts,
		struct fault *fault) {
	CLEANUP_FREE struct reading *g = calloc(1, sizeof(*g));
	if (!g)
		return fault_errno(fault, ENOMEM, "read hosts.toml");
	g->dir = dir;
	int r = server_default(&g->server, registry, fault);
	if (r == 0)
		r = toml_parse(text, size, on_event, g, fault);
	if (r == 0)
		r = finish(g, fault);
	host_deinit(&g->server);
	if (r < 0) {
		hosts_deinit(&g->hosts);
		return r;
	}
	*ret_hosts = g->hosts;
	return 0;
}

/* --- folders --------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end) {
	size_t n = strlen(text), m = strlen(end);
	return n > m && strcmp(text + n - m, end) == 0;
}

/* x.cert and x.key; only the first of several is used. */
static int docker_client(struct host *h, const char *dir, const char *name, struct fault *fault) {
	if (h->client_cert)
		return 0;
	if (asprintf(&h->client_cert, "%s/%s", dir, name) < 0 ||
	    asprintf(&h->client_key, "%s/%.*s.key", dir, (int)(strlen(name) - 5), name) < 0)
		return fault_errno(fault, ENOMEM, "client certificate");
	int r = check_readable(h->client_cert, fault);
	return r < 0 ? r : check_readable(h->client_key, fault);
}

static int docker_certificates(const char *dir, struct host *h, struct fault *fault) {
	DIR *d = opendir(dir);
	if (!d)
		return fault_errno(fault, errno, "folder \"%s\"", dir);
	int r = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d));) {
		char path[PATH_MAX];
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (ends_with(e->d_name, ".crt"))
			r = read_pem(path, &h->ca_pem, fault);
		else if (ends_with(e->d_name, ".cert"))
			r = docker_client(h, dir, e->d_name, fault);
	}
	closedir(d);
	return r;
}

static int load_from(const char *dir, const char *registry, struct hosts *ret_hosts, struct fault *fault) {
	char path[PATH_MAX];
	CLEANUP_FREE char *text = NULL;
	size_t size = 0;
	snprintf(path, sizeof(path), "%s/hosts.toml", dir);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return fault_errno(fault, errno, "\"%s\"", path);
	int r = fd < 0 ? 0 : fd_read_all(fd, FILE_MAX, &text, &size);
	if (r < 0)
		return fault_errno(fault, r, "\"%s\"", path);
	r = hosts_parse(text ? text : "", size, dir, registry, ret_hosts, fault);
	if (r < 0)
		return fault_prefix(fault, r, "\"%s\"", path);
	if (!text) {
		r = docker_certificates(dir, &ret_hosts->list[0], fault);
		if (r < 0)
			hosts_deinit(ret_hosts);
	}
	return r;
}

int hosts_load(const char *certs_dir, const char *registry, struct hosts *ret_hosts, struct fault *fault) {
	const char *colon = strrchr(registry, ':');
	const char *bracket = strrchr(registry, ']');
	if (bracket && colon && colon < bracket)
		colon = NULL;
	int host = colon ? (int)(colon - registry) : (int)strlen(registry);
	char dirs[4][PATH_MAX];
	snprintf(dirs[0], PATH_MAX, "%s/%.*s_%s_", certs_dir, host, registry, colon ? colon + 1 : "");
	snprintf(dirs[1], PATH_MAX, "%s/%s", certs_dir, registry);
	snprintf(dirs[2], PATH_MAX, "%s/%.*s", certs_dir, host, registry);
	snprintf(dirs[3], PATH_MAX, "%s/_default", certs_dir);
	for (size_t i = colon ? 0 : 1; certs_dir[0] && i < ARRAY_SIZE(dirs); i++)
		if (access(dirs[i], F_OK) == 0)
			return load_from(dirs[i], registry, ret_hosts, fault);
	return hosts_parse("", 0, "/", registry, ret_hosts, fault);
}
