/*
 * Decides what the keeper does itself. One table says which options of a
 * plugin are known and where they go; an option that isn't in it, or has an
 * unexpected value, makes the plugin an executed one. So a configuration never
 * means less than its author wrote.
 */
#include "conflist.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <string.h>

enum kind {
	KIND_IGNORED, /* means nothing here, whatever it is */
	KIND_BOOL,    /* into a protobuf_c_boolean */
	KIND_FALSE,   /* understood when it's false only */
	KIND_TRUE,
	KIND_ZERO,
	KIND_NUMBER, /* into a uint32_t */
	KIND_TEXT,   /* into a char *, in the arena */
	KIND_NO_TEXT,
	KIND_NO_OBJECT, /* understood when it's {} only */
	KIND_ELSEWHERE, /* its own code looks at it */
};

struct option {
	const char *key;
	enum kind kind;
	size_t offset;
};

/* What every plugin's object has and CNI itself understands. */
static const struct option common_options[] = {
	{ .key = "type", .kind = KIND_IGNORED },
	{ .key = "name", .kind = KIND_IGNORED },
	{ .key = "cniVersion", .kind = KIND_IGNORED },
	{ .key = "cniVersions", .kind = KIND_IGNORED },
	{ .key = NULL },
};

static const struct option bridge_options[] = {
	{ .key = "bridge", .kind = KIND_TEXT, .offset = offsetof(Bulkhead__NativeBridge, bridge) },
	{ .key = "isGateway", .kind = KIND_BOOL, .offset = offsetof(Bulkhead__NativeBridge, is_gateway) },
	{ .key = "isDefaultGateway",
	  .kind = KIND_BOOL,
	  .offset = offsetof(Bulkhead__NativeBridge, is_default_gateway) },
	{ .key = "forceAddress", .kind = KIND_BOOL, .offset = offsetof(Bulkhead__NativeBridge, force_address) },
	{ .key = "ipMasq", .kind = KIND_BOOL, .offset = offsetof(Bulkhead__NativeBridge, ip_masq) },
	{ .key = "ipMasqBackend", .kind = KIND_IGNORED },
	{ .key = "hairpinMode", .kind = KIND_BOOL, .offset = offsetof(Bulkhead__NativeBridge, hairpin) },
	{ .key = "promiscMode", .kind = KIND_BOOL, .offset = offsetof(Bulkhead__NativeBridge, promiscuous) },
	{ .key = "mtu", .kind = KIND_NUMBER, .offset = offsetof(Bulkhead__NativeBridge, mtu) },
	{ .key = "ipam", .kind = KIND_ELSEWHERE },
	{ .key = "vlan", .kind = KIND_ZERO },
	{ .key = "preserveDefaultVlan", .kind = KIND_IGNORED }, /* counts with a vlan only */
	{ .key = "enabledad", .kind = KIND_FALSE },
	{ .key = "macspoofchk", .kind = KIND_FALSE },
	{ .key = "disableContainerInterface", .kind = KIND_FALSE },
	{ .key = "dns", .kind = KIND_NO_OBJECT },
	{ .key = "capabilities", .kind = KIND_IGNORED }, /* ips, mac: the CRI has neither to give */
	{ .key = NULL },
};

static const struct option portmap_options[] = {
	{ .key = "capabilities", .kind = KIND_ELSEWHERE },
	{ .key = "snat", .kind = KIND_TRUE },
	{ .key = "masqAll", .kind = KIND_FALSE },
	{ .key = "backend", .kind = KIND_IGNORED },
	{ .key = NULL },
};

static const struct option loopback_options[] = { { .key = NULL } };

static const struct option ipam_options[] = {
	{ .key = "dataDir", .kind = KIND_TEXT, .offset = offsetof(Bulkhead__HostLocal, data_dir) },
	{ .key = "resolvConf", .kind = KIND_NO_TEXT },
	{ .key = "subnet", .kind = KIND_ELSEWHERE },
	{ .key = "rangeStart", .kind = KIND_ELSEWHERE },
	{ .key = "rangeEnd", .kind = KIND_ELSEWHERE },
	{ .key = "gateway", .kind = KIND_ELSEWHERE },
	{ .key = "ranges", .kind = KIND_ELSEWHERE },
	{ .key = "routes", .kind = KIND_ELSEWHERE },
	{ .key = NULL },
};

static const struct option range_options[] = {
	{ .key = "subnet", .kind = KIND_ELSEWHERE },
	{ .key = "rangeStart", .kind = KIND_ELSEWHERE },
	{ .key = "rangeEnd", .kind = KIND_ELSEWHERE },
	{ .key = "gateway", .kind = KIND_ELSEWHERE },
	{ .key = NULL },
};

static const struct option route_options[] = { { .key = "dst", .kind = KIND_ELSEWHERE },
					       { .key = "gw", .kind = KIND_ELSEWHERE },
					       { .key = NULL } };

/* --- the table at work --- */

static bool option_apply(const struct option *o, struct json_object *value, struct arena *arena, char *target) {
	bool boolean = json_object_is_type(value, json_type_boolean),
	     number = json_object_is_type(value, json_type_int);
	bool text = json_object_is_type(value, json_type_string);
	int64_t n = number ? json_object_get_int64(value) : 0;
	switch (o->kind) {
	case KIND_IGNORED:
	case KIND_ELSEWHERE:
		return true;
	case KIND_BOOL:
		if (boolean)
			*(protobuf_c_boolean *)(target + o->offset) = json_object_get_boolean(value);
		return boolean;
	case KIND_FALSE:
		return boolean && !json_object_get_boolean(value);
	case KIND_TRUE:
		return boolean && json_object_get_boolean(value);
	case KIND_ZERO:
		return number && n == 0;
	case KIND_NUMBER:
		if (!number || n < 0 || n > 65535)
			return false;
		*(uint32_t *)(target + o->offset) = (uint32_t)n;
		return true;
	case KIND_TEXT:
		if (!text || strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
			return false;
		char *copy = arena_strdup(arena, json_object_get_string(value));
		if (copy)
			*(char **)(target + o->offset) = copy;
		return copy != NULL;
	case KIND_NO_TEXT:
		return text && json_object_get_string_len(value) == 0;
	case KIND_NO_OBJECT:
		return json_object_is_type(value, json_type_object) && json_object_object_length(value) == 0;
	}
	return false;
}

static const struct option *option_find(const struct option *options, const char *key) {
	while (options->key && strcmp(options->key, key) != 0)
		options++;
	return options->key ? options : NULL;
}

/* Every member of config is in the table and as the table wants it. */
static bool options_apply(const struct option *options, struct json_object *config, struct arena *arena, void *target) {
	if (!json_object_is_type(config, json_type_object))
		return false;
	json_object_object_foreach(config, key, value) {
		const struct option *o = option_find(options, key) ?: option_find(common_options, key);
		if (!o || !option_apply(o, value, arena, target))
			return false;
	}
	return true;
}

/* --- addresses --- */

struct net {
	size_t size; /* 4 or 16 */
	unsigned prefix;
	uint8_t base[16], last[16]; /* of the subnet; last without the broadcast address */
};

static size_t address_of(const char *text, uint8_t ret_bytes[16]) {
	size_t size = strchr(text, ':') ? 16 : 4;
	return inet_pton(size == 4 ? AF_INET : AF_INET6, text, ret_bytes) == 1 ? size : 0;
}

/* "10.88.0.0/16", with zero host bits. */
static bool net_of(const char *text, struct net *ret_net) {
	char host[64];
	struct net net = { 0 };
	size_t n = strcspn(text, "/");
	if (n >= sizeof(host) || text[n] != '/' || strspn(text + n + 1, "0123456789") != strlen(text + n + 1) ||
	    strlen(text + n + 1) - 1 > 2)
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	net.size = address_of(host, net.base);
	net.prefix = (unsigned)strtoul(text + n + 1, NULL, 10);
	if (net.size == 0 || net.prefix > net.size * 8)
		return false;
	for (size_t i = 0; i < net.size; i++) {
		unsigned bits = net.prefix > i * 8 ? MIN(net.prefix - (unsigned)i * 8, 8u) : 0;
		uint8_t free_bits = (uint8_t)(0xff >> bits);
		if (net.base[i] & free_bits)
			return false;
		net.last[i] = net.base[i] | free_bits;
	}
	if (net.size == 4)
		net.last[3] &= 0xfe;
	*ret_net = net;
	return true;
}

static bool bytes_set(ProtobufCBinaryData *target, const uint8_t *bytes, size_t size, struct arena *arena) {
	target->data = arena_alloc(arena, size);
	target->len = target->data ? size : 0;
	if (target->data)
		memcpy(target->data, bytes, size);
	return target->data != NULL;
}

/* The member as an address inside the net, or the default. */
static bool address_option(struct json_object *config, const char *key, const struct net *net, const uint8_t *absent,
			   ProtobufCBinaryData *target, struct arena *arena) {
	uint8_t bytes[16];
	if (!json_object_object_get_ex(config, key, NULL))
		return bytes_set(target, absent, net->size, arena);
	if (address_of(json_member_text(config, key), bytes) != net->size || memcmp(bytes, net->base, net->size) < 0)
		return false;
	/* Beyond last is the broadcast address, or another subnet. */
	return memcmp(bytes, net->last, net->size) <= 0 && bytes_set(target, bytes, net->size, arena);
}

static bool range_of(struct json_object *config, struct arena *arena, Bulkhead__AddressRange **ret_range) {
	struct net net;
	Bulkhead__AddressRange *range = arena_alloc(arena, sizeof(*range));
	if (!range || !net_of(json_member_text(config, "subnet"), &net) || net.prefix + 2 > net.size * 8)
		return false;
	bulkhead__address_range__init(range);
	range->prefix = net.prefix;
	uint8_t first[16];
	memcpy(first, net.base, sizeof(first));
	first[net.size - 1] |= 1;
	if (!bytes_set(&range->subnet, net.base, net.size, arena) ||
	    !address_option(config, "rangeStart", &net, first, &range->first, arena) ||
	    !address_option(config, "rangeEnd", &net, net.last, &range->last, arena) ||
	    !address_option(config, "gateway", &net, first, &range->gateway, arena))
		return false;
	*ret_range = range;
	return memcmp(range->first.data, range->last.data, net.size) <= 0;
}

/* The old form: one range in the ipam object itself. */
static bool set_of_one(struct json_object *config, struct arena *arena, Bulkhead__AddressSet **ret_set) {
	Bulkhead__AddressSet *set = arena_alloc(arena, sizeof(*set));
	Bulkhead__AddressRange **ranges = arena_alloc(arena, sizeof(*ranges));
	if (!set || !ranges || !range_of(config, arena, &ranges[0]))
		return false;
	bulkhead__address_set__init(set);
	set->ranges = ranges;
	set->n_ranges = 1;
	*ret_set = set;
	return true;
}

static bool set_of(struct json_object *list, struct arena *arena, Bulkhead__AddressSet **ret_set) {
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
	Bulkhead__AddressSet *set = arena_alloc(arena, sizeof(*set));
	Bulkhead__AddressRange **ranges = arena_alloc(arena, n * sizeof(*ranges));
	if (n == 0 || !set || !ranges)
		return false;
	bulkhead__address_set__init(set);
	set->ranges = ranges;
	for (size_t i = 0; i < n; i++) {
		struct json_object *o = json_object_array_get_idx(list, i);
		if (!options_apply(range_options, o, arena, NULL) || !range_of(o, arena, &ranges[i]) ||
		    ranges[i]->subnet.len != ranges[0]->subnet.len)
			return false;
	}
	set->n_ranges = n;
	*ret_set = set;
	return true;
}

#define SETS_MAX 8

static bool sets_of(struct json_object *ipam, struct arena *arena, Bulkhead__HostLocal *h) {
	struct json_object *list = json_member(ipam, "ranges", json_type_array);
	size_t n = list ? json_object_array_length(list) : 0;
	bool have_list = json_object_object_get_ex(ipam, "ranges", NULL);
	bool have_one = json_object_object_get_ex(ipam, "subnet", NULL);
	if ((have_list && !list) || n + have_one == 0 || n + have_one > SETS_MAX)
		return false;
	h->sets = arena_alloc(arena, (n + 1) * sizeof(*h->sets));
	if (!h->sets)
		return false;
	if (have_one && !set_of_one(ipam, arena, &h->sets[h->n_sets++]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!set_of(json_object_array_get_idx(list, i), arena, &h->sets[h->n_sets++]))
			return false;
	return true;
}

static bool route_of(struct json_object *config, struct arena *arena, Bulkhead__NetworkRoute **ret_route) {
	struct net net;
	uint8_t gateway[16];
	const char *gw = json_member_text(config, "gw");
	Bulkhead__NetworkRoute *route = arena_alloc(arena, sizeof(*route));
	if (!route || !options_apply(route_options, config, arena, NULL) ||
	    !net_of(json_member_text(config, "dst"), &net))
		return false;
	bulkhead__network_route__init(route);
	route->prefix = net.prefix;
	if (!bytes_set(&route->destination, net.base, net.size, arena))
		return false;
	*ret_route = route;
	if (!json_object_object_get_ex(config, "gw", NULL))
		return true;
	return address_of(gw, gateway) == net.size && bytes_set(&route->gateway, gateway, net.size, arena);
}

static bool routes_of(struct json_object *ipam, struct arena *arena, Bulkhead__HostLocal *h) {
	struct json_object *list = json_member(ipam, "routes", json_type_array);
	if (!list)
		return !json_object_object_get_ex(ipam, "routes", NULL);
	size_t n = json_object_array_length(list);
	h->routes = arena_alloc(arena, (n + 1) * sizeof(*h->routes));
	for (size_t i = 0; h->routes && i < n; i++)
		if (!route_of(json_object_array_get_idx(list, i), arena, &h->routes[h->n_routes++]))
			return false;
	return h->routes != NULL;
}

static bool host_local(struct json_object *ipam, const char *cache_dir, struct arena *arena,
		       Bulkhead__HostLocal **ret_host_local) {
	Bulkhead__HostLocal *h = arena_alloc(arena, sizeof(*h));
	if (!ipam || !h || strcmp(json_member_text(ipam, "type"), "host-local") != 0)
		return false;
	bulkhead__host_local__init(h);
	if (!options_apply(ipam_options, ipam, arena, h) || !sets_of(ipam, arena, h) || !routes_of(ipam, arena, h))
		return false;
	if (!*h->data_dir)
		h->data_dir = arena_printf(arena, "%s/networks", cache_dir);
	*ret_host_local = h;
	return h->data_dir && h->data_dir[0] == '/';
}

/* --- the plugins --- */

static bool native_bridge(struct json_object *config, const char *cache_dir, struct arena *arena,
			  Bulkhead__NetworkPlan__Plugin *p) {
	Bulkhead__NativeBridge *b = arena_alloc(arena, sizeof(*b));
	if (!b)
		return false;
	bulkhead__native_bridge__init(b);
	b->bridge = (char *)"cni0";
	if (!options_apply(bridge_options, config, arena, b) ||
	    !host_local(json_member(config, "ipam", json_type_object), cache_dir, arena, &b->ipam))
		return false;
	if (*b->bridge == '\0' || strlen(b->bridge) >= IFNAMSIZ || (b->hairpin && b->promiscuous))
		return false;
	b->is_gateway |= b->is_default_gateway;
	p->bridge = b;
	p->native_case = BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE;
	return true;
}

static bool native_portmap(struct json_object *config, const char *cache_dir, struct arena *arena,
			   Bulkhead__NetworkPlan__Plugin *p) {
	struct json_object *capabilities = json_member(config, "capabilities", json_type_object);
	struct json_object *on = json_member(capabilities, "portMappings", json_type_boolean);
	/* Without the capability the plugin does nothing; let it. */
	if (!options_apply(portmap_options, config, arena, NULL) || !on || !json_object_get_boolean(on))
		return false;
	p->portmap = arena_alloc(arena, sizeof(*p->portmap));
	if (!p->portmap)
		return false;
	bulkhead__native_portmap__init(p->portmap);
	p->native_case = BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_PORTMAP;
	return true;
}

static bool native_loopback(struct json_object *config, const char *cache_dir, struct arena *arena,
			    Bulkhead__NetworkPlan__Plugin *p) {
	if (!options_apply(loopback_options, config, arena, NULL))
		return false;
	p->loopback = arena_alloc(arena, sizeof(*p->loopback));
	if (!p->loopback)
		return false;
	bulkhead__native_loopback__init(p->loopback);
	p->native_case = BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_LOOPBACK;
	return true;
}

bool native_plugin(struct json_object *config, const char *type, const char *cache_dir, struct arena *arena,
		   Bulkhead__NetworkPlan__Plugin *p) {
	static const struct {
		const char *type;
		bool (*parse)(struct json_object *config, const char *cache_dir, struct arena *arena,
			      Bulkhead__NetworkPlan__Plugin *p);
	} natives[] = {
		{ .type = "bridge", .parse = native_bridge },
		{ .type = "portmap", .parse = native_portmap },
		{ .type = "loopback", .parse = native_loopback },
	};
	for (size_t i = 0; i < ARRAY_SIZE(natives); i++)
		if (strcmp(type, natives[i].type) == 0)
			return natives[i].parse(config, cache_dir, arena, p);
	return false;
}
