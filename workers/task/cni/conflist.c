/*
 * Reads a configuration file's text: strictly, bounded in size and depth, whole
 * or not at all. What isn't understood in a plugin's object is the plugin's
 * business and is handed to it unchanged.
 */
#include "conflist.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define JSON_DEPTH 32
#define NAME_MAX_LENGTH 64

static const char *const versions[] = { "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0" };

static void json_put(struct json_object **o) {
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_put)

struct json_object *json_member(struct json_object *o, const char *key, enum json_type type) {
	struct json_object *m = NULL;
	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &m))
		return NULL;
	return json_object_is_type(m, type) ? m : NULL;
}

const char *json_member_text(struct json_object *o, const char *key) {
	struct json_object *m = json_member(o, key, json_type_string);
	if (!m || strlen(json_object_get_string(m)) != (size_t)json_object_get_string_len(m))
		return "";
	return json_object_get_string(m);
}

/* Where a parser stopped, as people count. */
static void line_and_column(const char *text, size_t at, unsigned *ret_line, unsigned *ret_column) {
	unsigned line = 1, column = 1;
	for (size_t i = 0; i < at && text[i]; i++) {
		column = text[i] == '\n' ? 1 : column + 1;
		line += text[i] == '\n';
	}
	*ret_line = line;
	*ret_column = column;
}

static int parse_object(const char *text, size_t size, struct json_object **ret_object, struct fault *fault) {
	unsigned line, column;
	if (size > CONFLIST_SIZE_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "larger than %d bytes", CONFLIST_SIZE_MAX);
	if (memchr(text, '\0', size))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "has a NUL byte inside");
	while (size > 0 && strchr(" \t\r\n", text[size - 1]))
		size--;
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH);
	if (!t)
		return fault_errno(fault, ENOMEM, "parse it");
	json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	CLEANUP_JSON struct json_object *o = json_tokener_parse_ex(t, text, (int)size);
	enum json_tokener_error e = json_tokener_get_error(t);
	line_and_column(text, json_tokener_get_parse_end(t), &line, &column);
	json_tokener_free(t);
	if (e == json_tokener_continue)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the JSON ends too early");
	if (e != json_tokener_success)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "no valid JSON at line %u, column %u: %s", line, column,
				 json_tokener_error_desc(e));
	if (!json_object_is_type(o, json_type_object))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "is no JSON object");
	*ret_object = take_ptr(o);
	return 0;
}

/* A name that is used in paths: of a network, or of a plugin's program. */
static bool name_valid(const char *name) {
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	size_t n = strlen(name);
	return n > 0 && n <= NAME_MAX_LENGTH && strchr(first, name[0]) &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

static int version_index(const char *version) {
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
		if (strcmp(version, versions[i]) == 0)
			return (int)i;
	return -1;
}

/* The highest that we know of "cniVersions", else "cniVersion". */
static int version_choose(struct json_object *o, const char **ret_version, struct fault *fault) {
	struct json_object *list = json_member(o, "cniVersions", json_type_array);
	const char *one = json_member_text(o, "cniVersion");
	int best = version_index(one);
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		struct json_object *v = json_object_array_get_idx(list, i);
		if (json_object_is_type(v, json_type_string))
			best = MAX(best, version_index(json_object_get_string(v)));
	}
	if (best < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "cniVersion \"%.32s\" isn't one of %s to %s", one,
				 versions[0], versions[ARRAY_SIZE(versions) - 1]);
	*ret_version = versions[best];
	return 0;
}

static unsigned capabilities_of(struct json_object *config) {
	static const struct {
		const char *key;
		enum conflist_capability bit;
	} known[] = {
		{ .key = "portMappings", .bit = CAPABILITY_PORT_MAPPINGS },
		{ .key = "dns", .bit = CAPABILITY_DNS },
		{ .key = "io.kubernetes.cri.pod-annotations", .bit = CAPABILITY_ANNOTATIONS },
		{ .key = "bandwidth", .bit = CAPABILITY_BANDWIDTH },
	};
	struct json_object *o = json_member(config, "capabilities", json_type_object);
	unsigned bits = 0;
	for (size_t i = 0; o && i < ARRAY_SIZE(known); i++) {
		struct json_object *on = json_member(o, known[i].key, json_type_boolean);
		if (on && json_object_get_boolean(on))
			bits |= known[i].bit;
	}
	return bits;
}

/* An executed host-local must keep its addresses where a native one does. */
static void steer_host_local(struct json_object *config, const char *cache_dir) {
	struct json_object *ipam = json_member(config, "ipam", json_type_object);
	if (!ipam || strcmp(cache_dir, CNI_CACHE_DIR) == 0 ||
	    strcmp(json_member_text(ipam, "type"), "host-local") != 0 || *json_member_text(ipam, "dataDir"))
		return;
	char path[4096];
	if (snprintf(path, sizeof(path), "%s/networks", cache_dir) < (int)sizeof(path))
		json_object_object_add(ipam, "dataDir", json_object_new_string(path));
}

static int add_plugin(struct conflist *list, struct json_object *config, const char *cache_dir, struct arena *arena,
		      struct fault *fault) {
	const char *type = json_member_text(config, "type");
	if (list->n_plugins == CONFLIST_PLUGINS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "more than %d plugins", CONFLIST_PLUGINS_MAX);
	if (!name_valid(type))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "plugin %zu: type \"%.80s\" can't be the name of a plugin", list->n_plugins, type);
	Bulkhead__NetworkPlan__Plugin *p = arena_alloc(arena, sizeof(*p));
	if (!p)
		return fault_errno(fault, ENOMEM, "read it");
	bulkhead__network_plan__plugin__init(p);
	p->type = arena_strdup(arena, type);
	if (!native_plugin(config, type, cache_dir, arena, p)) {
		json_object_object_add(config, "name", json_object_new_string(list->name));
		json_object_object_add(config, "cniVersion", json_object_new_string(list->cni_version));
		json_object_object_del(config, "runtimeConfig");
		steer_host_local(config, cache_dir);
		const char *text = json_object_to_json_string_ext(config, JSON_C_TO_STRING_PLAIN);
		p->config_json = text ? arena_strdup(arena, text) : NULL;
		list->capabilities[list->n_plugins] = capabilities_of(config);
		list->executes = true;
	}
	if (!p->type || !p->config_json)
		return fault_errno(fault, ENOMEM, "read it");
	list->plugins[list->n_plugins++] = p;
	return 0;
}

int conflist_parse(const char *text, size_t size, const char *cache_dir, struct arena *arena, struct conflist *ret_list,
		   struct fault *fault) {
	CLEANUP_JSON struct json_object *o = NULL;
	struct conflist list = { 0 };
	int r = parse_object(text, size, &o, fault);
	if (r == 0)
		r = version_choose(o, &list.cni_version, fault);
	if (r < 0)
		return r;
	const char *name = json_member_text(o, "name");
	if (!name_valid(name))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "name \"%.80s\" can't be the name of a network", name);
	list.name = arena_strdup(arena, name);
	if (!list.name)
		return fault_errno(fault, ENOMEM, "read it");
	struct json_object *plugins = json_member(o, "plugins", json_type_array);
	if (!plugins && *json_member_text(o, "type"))
		r = add_plugin(&list, o, cache_dir, arena, fault); /* a single plugin's file */
	else if (!plugins || json_object_array_length(plugins) == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "has neither a list of \"plugins\" nor a \"type\"");
	for (size_t i = 0; r == 0 && plugins && i < json_object_array_length(plugins); i++)
		r = add_plugin(&list, json_object_array_get_idx(plugins, i), cache_dir, arena, fault);
	if (r == 0)
		*ret_list = list;
	return r;
}
