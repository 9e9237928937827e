/*
 * The image's configuration: what a container inherits. Text of the image's
 * author, taken as it is and only as data; whoever uses a field checks it.
 */
#include "manifest.h"

#include "base/clock.h"
#include "base/id.h"
#include "json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct members {
	struct arena *arena;
	size_t n;
	Bulkhead__ImageConfig__LabelsEntry **labels;
	char **names;
	bool failed;
};

static int no_memory(struct fault *fault) {
	return fault_errno(fault, ENOMEM, "read the image's config");
}

/* An absent list is an empty one; anything but strings in it is an error. */
static int strings(const struct json *list, const char *what, struct arena *arena, size_t *ret_n, char ***ret_list,
		   struct fault *fault) {
	size_t n = json_length(list);
	char **out = arena_zalloc(arena, (n + 1) * sizeof(*out));
	if (!out)
		return no_memory(fault);
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string(json_at(list, i));
		if (!s)
			return fault_set(fault, FAULT_DATA_LOSS, "the image's config: %s must hold strings", what);
		out[i] = arena_strdup(arena, s);
		if (!out[i])
			return no_memory(fault);
	}
	*ret_list = out;
	*ret_n = n;
	return 0;
}

static int add_label(void *ctx, const char *key, const struct json *value) {
	struct members *m = ctx;
	const char *text = json_string(value);
	Bulkhead__ImageConfig__LabelsEntry *e = arena_alloc(m->arena, sizeof(*e));
	if (!text)
		return 0;
	if (e) {
		bulkhead__image_config__labels_entry__init(e);
		e->key = arena_strdup(m->arena, key);
		e->value = arena_strdup(m->arena, text);
	}
	m->failed = m->failed || !e || !e->key || !e->value;
	m->labels[m->n++] = e;
	return m->failed;
}

static int add_name(void *ctx, const char *key, const struct json *value) {
	struct members *m = ctx;
	m->names[m->n++] = arena_strdup(m->arena, key);
	m->failed = !m->names[m->n - 1];
	return m->failed;
}

static int labels(const struct json *config, struct arena *arena, Bulkhead__ImageConfig *c, struct fault *fault) {
	const struct json *o = json_get(config, "Labels");
	struct members m = { .arena = arena };
	m.labels = arena_zalloc(arena, (json_size(o) + 1) * sizeof(*m.labels));
	if (!m.labels || json_each(o, add_label, &m))
		return no_memory(fault);
	c->labels = m.labels;
	c->n_labels = m.n;
	return 0;
}

/* A set: an object whose values say nothing. */
static int names(const struct json *set, struct arena *arena, size_t *ret_n, char ***ret_list, struct fault *fault) {
	struct members m = { .arena = arena };
	m.names = arena_zalloc(arena, (json_size(set) + 1) * sizeof(*m.names));
	if (!m.names || json_each(set, add_name, &m))
		return no_memory(fault);
	*ret_list = m.names;
	*ret_n = m.n;
	return 0;
}

/* RFC 3339 with any fraction and offset; 0 when it is none. */
static int64_t parse_time(const char *text) {
	struct tm tm = { 0 };
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!p)
		return 0;
	time_t seconds = timegm(&tm);
	/* Reproducible builds say year 1; nanoseconds in 64 bits end in 2262. */
	if (seconds < 0 || seconds > INT64_MAX / NS_PER_SEC - 1000000)
		return 0;
	int64_t ns = (int64_t)seconds * NS_PER_SEC, unit = NS_PER_SEC / 10;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
			ns += (*p - '0') * unit;
	int hours, minutes;
	if ((*p == '+' || *p == '-') && sscanf(p + 1, "%2d:%2d", &hours, &minutes) == 2)
		ns -= (*p == '-' ? -1 : 1) * (hours * 60 + minutes) * 60 * NS_PER_SEC;
	return ns;
}

static int fields(const struct json *doc, struct arena *arena, Bulkhead__ImageConfig *c, struct fault *fault) {
	const struct json *config = json_get(doc, "config");
	const struct platform p =
	    platform_make(json_text(doc, "os"), json_text(doc, "architecture"), json_text(doc, "variant"));
	c->os = arena_strdup(arena, p.os);
	c->architecture = arena_strdup(arena, p.architecture);
	c->variant = arena_strdup(arena, p.variant);
	c->working_dir = arena_strdup(arena, json_text(config, "WorkingDir"));
	c->user = arena_strdup(arena, json_text(config, "User"));
	c->stop_signal = arena_strdup(arena, json_text(config, "StopSignal"));
	c->created_at = parse_time(json_text(doc, "created"));
	if (!c->os || !c->architecture || !c->variant || !c->working_dir || !c->user || !c->stop_signal)
		return no_memory(fault);
	int r = strings(json_get(config, "Entrypoint"), "Entrypoint", arena, &c->n_entrypoint, &c->entrypoint, fault);
	if (r == 0)
		r = strings(json_get(config, "Cmd"), "Cmd", arena, &c->n_cmd, &c->cmd, fault);
	if (r == 0)
		r = strings(json_get(config, "Env"), "Env", arena, &c->n_env, &c->env, fault);
	if (r == 0)
		r = labels(config, arena, c, fault);
	if (r == 0)
		r = names(json_get(config, "Volumes"), arena, &c->n_volumes, &c->volumes, fault);
	if (r == 0)
		r = names(json_get(config, "ExposedPorts"), arena, &c->n_exposed_ports, &c->exposed_ports, fault);
	return r;
}

/* An image that names no architecture may run anywhere. */
static int check_platform(const Bulkhead__ImageConfig *c, const struct platform *wanted, struct fault *fault) {
	struct platform have = platform_make(c->os[0] ? c->os : wanted->os, c->architecture, c->variant);
	if (!have.architecture[0] || platform_rank(wanted, &have) > 0)
		return 0;
	char a[3 * PLATFORM_TEXT_MAX + 3], b[3 * PLATFORM_TEXT_MAX + 3];
	platform_text(&have, a);
	platform_text(wanted, b);
	return fault_set(fault, FAULT_NOT_FOUND, "there is no image for %s, only for: %s", b, a);
}

static int diff_ids(const struct json *doc, size_t n_layers, struct arena *arena, char ***ret_list,
		    struct fault *fault) {
	size_t n;
	int r = strings(json_get(json_get(doc, "rootfs"), "diff_ids"), "rootfs.diff_ids", arena, &n, ret_list, fault);
	if (r < 0)
		return r;
	if (n != n_layers)
		return fault_set(fault, FAULT_DATA_LOSS,
				 "the image's config names %zu layers (rootfs.diff_ids), its manifest %zu", n,
				 n_layers);
	for (size_t i = 0; i < n; i++)
		if (!digest_valid((*ret_list)[i]))
			return fault_set(fault, FAULT_DATA_LOSS,
					 "the image's config: \"%.100s\" in rootfs.diff_ids is no sha256 digest",
					 (*ret_list)[i]);
	return 0;
}

int image_config_parse(const void *data, size_t size, const struct platform *wanted, size_t n_layers,
		       struct arena *arena, Bulkhead__ImageConfig **ret_config, char ***ret_diff_ids,
		       struct fault *fault) {
	CLEANUP_JSON struct json *doc = NULL;
	int r = json_parse(data, size, &doc, fault);
	if (r < 0)
		return fault_prefix(fault, r, "the image's config");
	if (!json_is_object(doc))
		return fault_set(fault, FAULT_DATA_LOSS, "the image's config is no JSON object");
	Bulkhead__ImageConfig *c = arena_alloc(arena, sizeof(*c));
	if (!c)
		return no_memory(fault);
	bulkhead__image_config__init(c);
	r = fields(doc, arena, c, fault);
	if (r == 0 && wanted)
		r = check_platform(c, wanted, fault);
	if (r == 0)
		r = diff_ids(doc, n_layers, arena, ret_diff_ids, fault);
	if (r == 0)
		*ret_config = c;
	return r;
}
