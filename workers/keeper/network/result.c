/*
 * Plugins are programs of the administrator, but what they print is not ours:
 * parsed strictly and with bounded depth, everything else in it is passed on
 * and not understood.
 */
#include "result.h"

#include "base/buffer.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#define JSON_DEPTH 32

static void json_put(struct json_object **o) {
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_put)

/* One object and nothing behind it; NULL otherwise. */
static struct json_object *parse_object(const char *text) {
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH);
	if (!t)
		return NULL;
	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	size_t n = strlen(text);
	while (n > 0 && strchr(" \t\r\n", text[n - 1]))
		n--; /* strict takes nothing behind the value, not even a newline */
	struct json_object *o = n < INT32_MAX ? json_tokener_parse_ex(t, text, (int)n) : NULL;
	if (o && (json_tokener_get_error(t) != json_tokener_success || !json_object_is_type(o, json_type_object))) {
		json_object_put(o);
		o = NULL;
	}
	json_tokener_free(t);
	return o;
}

static struct json_object *member(struct json_object *o, const char *key, enum json_type type) {
	struct json_object *m = NULL;
	if (!o || !json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &m))
		return NULL;
	return json_object_is_type(m, type) ? m : NULL;
}

static const char *member_text(struct json_object *o, const char *key) {
	struct json_object *m = member(o, key, json_type_string);
	return m ? json_object_get_string(m) : "";
}

bool cni_error_parse(const char *text, struct cni_error *ret_error) {
	CLEANUP_JSON struct json_object *o = parse_object(text);
	struct json_object *code = member(o, "code", json_type_int);
	if (!code || !member(o, "msg", json_type_string))
		return false;
	*ret_error = (struct cni_error){ .code = (unsigned)json_object_get_int64(code) };
	snprintf(ret_error->message, sizeof(ret_error->message), "%s", member_text(o, "msg"));
	snprintf(ret_error->details, sizeof(ret_error->details), "%s", member_text(o, "details"));
	return true;
}

/* An address belongs to the pod unless its interface is on the host. */
static bool is_pods(struct json_object *ip, struct json_object *interfaces, const char *ifname) {
	struct json_object *index = member(ip, "interface", json_type_int);
	if (!index || !interfaces)
		return true;
	int64_t i = json_object_get_int64(index);
	if (i < 0 || (size_t)i >= json_object_array_length(interfaces))
		return false;
	struct json_object *interface = json_object_array_get_idx(interfaces, (size_t)i);
	return *member_text(interface, "sandbox") && strcmp(member_text(interface, "name"), ifname) == 0;
}

int cni_result_addresses(const char *result, const char *ifname, struct pod_address *ret_addresses, size_t room,
			 size_t *ret_n) {
	CLEANUP_JSON struct json_object *o = parse_object(result);
	if (!o)
		return -EBADMSG;
	struct json_object *ips = member(o, "ips", json_type_array);
	struct json_object *interfaces = member(o, "interfaces", json_type_array);
	size_t n = 0, n_ips = ips ? json_object_array_length(ips) : 0;
	for (size_t i = 0; i < n_ips; i++) {
		struct json_object *ip = json_object_array_get_idx(ips, i);
		struct pod_address a = { 0 };
		const char *gateway = member_text(ip, "gateway");
		if (!address_parse(&a.address, member_text(ip, "address")) ||
		    (*gateway && !address_parse(&a.gateway, gateway)))
			return -EBADMSG;
		if (!is_pods(ip, interfaces, ifname))
			continue;
		if (n == room)
			return -EOVERFLOW;
		ret_addresses[n++] = a;
	}
	*ret_n = n;
	return 0;
}

static void add_text(struct json_object *o, const char *key, const char *text) {
	json_object_object_add(o, key, json_object_new_string(text));
}

static void add_interface(struct json_object *list, const char *name, const uint8_t *mac, const char *sandbox) {
	struct json_object *o = json_object_new_object();
	char text[18];
	add_text(o, "name", name);
	if (mac) {
		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
			 mac[5]);
		add_text(o, "mac", text);
	}
	if (sandbox)
		add_text(o, "sandbox", sandbox);
	json_object_array_add(list, o);
}

static void add_address(struct json_object *list, const struct pod_address *a, bool with_version) {
	struct json_object *o = json_object_new_object();
	char text[ADDRESS_TEXT], cidr[ADDRESS_TEXT + 4];
	if (with_version)
		add_text(o, "version", a->address.size == 4 ? "4" : "6");
	json_object_object_add(o, "interface", json_object_new_int(2));
	snprintf(cidr, sizeof(cidr), "%s/%u", address_text(&a->address, text), a->address.prefix);
	add_text(o, "address", cidr);
	if (a->gateway.size)
		add_text(o, "gateway", address_text(&a->gateway, text));
	json_object_array_add(list, o);
}

static void add_route(struct json_object *list, const struct address *destination, const struct address *gateway) {
	struct json_object *o = json_object_new_object();
	char text[ADDRESS_TEXT], cidr[ADDRESS_TEXT + 4];
	snprintf(cidr, sizeof(cidr), "%s/%u", address_text(destination, text), destination->prefix);
	add_text(o, "dst", cidr);
	if (gateway->size)
		add_text(o, "gw", address_text(gateway, text));
	json_object_array_add(list, o);
}

static struct json_object *routes_of(const struct cni_made *made) {
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < made->ipam->n_routes; i++) {
		const Bulkhead__NetworkRoute *m = made->ipam->routes[i];
		struct address destination, gateway;
		if (address_set(&destination, &m->destination, m->prefix, false) &&
		    address_set(&gateway, &m->gateway, 0, true))
			add_route(list, &destination, &gateway);
	}
	for (size_t i = 0; made->default_gateway && i < made->n_addresses; i++) {
		struct address all = { .size = made->addresses[i].address.size };
		add_route(list, &all, &made->addresses[i].gateway);
	}
	return list;
}

/* "1.x.y" or later; versions are checked when the configuration is loaded. */
static bool version_at_least(const char *version, unsigned major, unsigned minor) {
	unsigned a = 0, b = 0;
	return sscanf(version, "%u.%u", &a, &b) == 2 && (a > major || (a == major && b >= minor));
}

bool cni_version_has_cached_result(const char *version) {
	return version_at_least(version, 0, 4);
}

char *cni_result_compose(const struct cni_made *made) {
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	struct json_object *interfaces = json_object_new_array(), *ips = json_object_new_array();
	add_text(o, "cniVersion", made->version);
	add_interface(interfaces, made->bridge, NULL, NULL);
	add_interface(interfaces, made->host_ifname, NULL, NULL);
	add_interface(interfaces, made->ifname, made->mac, made->netns);
	for (size_t i = 0; i < made->n_addresses; i++)
		add_address(ips, &made->addresses[i], !version_at_least(made->version, 1, 0));
	json_object_object_add(o, "interfaces", interfaces);
	json_object_object_add(o, "ips", ips);
	json_object_object_add(o, "routes", routes_of(made));
	json_object_object_add(o, "dns", json_object_new_object());
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	return text ? strdup(text) : NULL;
}

char *cni_config_with_previous(const char *config, const char *result) {
	CLEANUP_JSON struct json_object *o = parse_object(config);
	struct json_object *previous = o ? parse_object(result) : NULL;
	if (!previous)
		return NULL;
	json_object_object_add(o, "prevResult", previous);
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	return text ? strdup(text) : NULL;
}
