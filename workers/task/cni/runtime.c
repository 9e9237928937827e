/* What a plugin is told about one pod, as the conventions of CNI name it. All
 * of it comes from a client, so it's written by json-c, never by hand. */
#include "conflist.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static void json_put(struct json_object **o) {
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_put)

static void add_text(struct json_object *o, const char *key, const char *text) {
	json_object_object_add(o, key, json_object_new_string(text));
}

static void add_number(struct json_object *o, const char *key, int64_t n) {
	json_object_object_add(o, key, json_object_new_int64(n));
}

static void add_texts(struct json_object *o, const char *key, char *const *texts, size_t n) {
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < n; i++)
		json_object_array_add(list, json_object_new_string(texts[i]));
	json_object_object_add(o, key, list);
}

static void add_port_mappings(struct json_object *o, const Bulkhead__SandboxStartRequest *s) {
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; i < s->n_port_mappings; i++) {
		const Bulkhead__PortMapping *m = s->port_mappings[i];
		if (m->host_port == 0)
			continue; /* not published */
		struct json_object *p = json_object_new_object();
		add_number(p, "hostPort", m->host_port);
		add_number(p, "containerPort", m->container_port);
		add_text(p, "protocol",
			 m->protocol == IPPROTO_UDP    ? "udp"
			 : m->protocol == IPPROTO_SCTP ? "sctp"
						       : "tcp");
		if (*m->host_ip)
			add_text(p, "hostIP", m->host_ip);
		json_object_array_add(list, p);
	}
	if (json_object_array_length(list) > 0)
		json_object_object_add(o, "portMappings", list);
	else
		json_object_put(list);
}

static void add_dns(struct json_object *o, const Bulkhead__SandboxStartRequest *s) {
	if (s->n_dns_servers + s->n_dns_searches + s->n_dns_options == 0)
		return;
	struct json_object *dns = json_object_new_object();
	add_texts(dns, "servers", s->dns_servers, s->n_dns_servers);
	add_texts(dns, "searches", s->dns_searches, s->n_dns_searches);
	add_texts(dns, "options", s->dns_options, s->n_dns_options);
	json_object_object_add(o, "dns", dns);
}

static void add_annotations(struct json_object *o, const Bulkhead__SandboxStartRequest *s) {
	struct json_object *map = json_object_new_object();
	for (size_t i = 0; i < s->n_annotations; i++)
		add_text(map, s->annotations[i]->key, s->annotations[i]->value);
	json_object_object_add(o, "io.kubernetes.cri.pod-annotations", map);
}

/* A quantity as Kubernetes writes it ("10M", "1Gi", "500000"), a whole number;
 * -1 when it's none or out of range. */
static int64_t quantity(const char *text) {
	static const struct {
		const char *suffix;
		int64_t factor;
	} units[] = {
		{ .suffix = "", .factor = 1 },
		{ .suffix = "k", .factor = 1000 },
		{ .suffix = "M", .factor = 1000000 },
		{ .suffix = "G", .factor = 1000000000 },
		{ .suffix = "T", .factor = INT64_C(1000000000000) },
		{ .suffix = "Ki", .factor = 1 << 10 },
		{ .suffix = "Mi", .factor = 1 << 20 },
		{ .suffix = "Gi", .factor = 1 << 30 },
		{ .suffix = "Ti", .factor = INT64_C(1) << 40 },
	};
	size_t digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 18)
		return -1;
	int64_t n = strtoll(text, NULL, 10), product;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (strcmp(text + digits, units[i].suffix) == 0)
			return __builtin_mul_overflow(n, units[i].factor, &product) ? -1 : product;
	return -1;
}

static int add_bandwidth(struct json_object *o, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	static const struct {
		const char *annotation, *rate, *burst;
	} directions[] = {
		{ .annotation = "kubernetes.io/ingress-bandwidth", .rate = "ingressRate", .burst = "ingressBurst" },
		{ .annotation = "kubernetes.io/egress-bandwidth", .rate = "egressRate", .burst = "egressBurst" },
	};
	CLEANUP_JSON struct json_object *b = json_object_new_object();
	for (size_t i = 0; i < s->n_annotations; i++)
		for (size_t d = 0; d < ARRAY_SIZE(directions); d++) {
			if (strcmp(s->annotations[i]->key, directions[d].annotation) != 0)
				continue;
			int64_t rate = quantity(s->annotations[i]->value);
			if (rate < 1000)
				return fault_set(fault, FAULT_INVALID_ARGUMENT,
						 "annotation %s is \"%.32s\"; it takes bits per second, 1k or more",
						 directions[d].annotation, s->annotations[i]->value);
			add_number(b, directions[d].rate, rate);
			add_number(b, directions[d].burst, INT32_MAX);
		}
	if (json_object_object_length(b) > 0)
		json_object_object_add(o, "bandwidth", take_ptr(b));
	return 0;
}

int runtime_config(unsigned capabilities, const Bulkhead__SandboxStartRequest *sandbox, struct arena *arena,
		   const char **ret_text, struct fault *fault) {
	CLEANUP_JSON struct json_object *o = json_object_new_object();
	int r = 0;
	if (capabilities & CAPABILITY_PORT_MAPPINGS)
		add_port_mappings(o, sandbox);
	if (capabilities & CAPABILITY_DNS)
		add_dns(o, sandbox);
	if (capabilities & CAPABILITY_ANNOTATIONS)
		add_annotations(o, sandbox);
	if (capabilities & CAPABILITY_BANDWIDTH)
		r = add_bandwidth(o, sandbox, fault);
	if (r < 0)
		return r;
	*ret_text = NULL;
	if (json_object_object_length(o) == 0)
		return 0;
	const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
	*ret_text = text ? arena_strdup(arena, text) : NULL;
	return *ret_text ? 0 : fault_errno(fault, ENOMEM, "configure the pod's network");
}
