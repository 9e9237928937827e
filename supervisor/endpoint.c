/*
 * Endpoints in the configuration: "endpoint.NAME.FIELD = value". A name that
 * is new makes an endpoint; "cri" and "containerd" are there by themselves, or
 * "agent" in an agent, and their lines change what they are. "agent" and
 * "hypervisor" have what they serve, and ttrpc, by their names.
 *
 * What a single line can get wrong is said with that line; what two endpoints
 * have against each other is seen at the end, and said with the line that set
 * the socket.
 */
#include "supervisor/config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AGENT "agent"
#define HYPERVISOR "hypervisor"
/* Where a Kata host looks for it. */
#define AGENT_SOCKET "vsock://-1:1024"

static int on_socket(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	uint32_t cid, port;
	bool vsock = endpoint_vsock(value, &cid, &port) == 0;
	const char *path = endpoint_serial(value) ? endpoint_serial(value) : value;
	if ((!vsock && !config_path_clean(path, strlen(path))) || strlen(value) >= BOOT_SOCKET_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: a socket is an absolute path of at most %d bytes, vsock://CID:PORT with -1 "
				 "for any CID, or serial:///dev/NAME, not \"%s\"",
				 where, BOOT_SOCKET_MAX - 1, value);
	snprintf(c->boot.endpoints[i].socket, BOOT_SOCKET_MAX, "%s", value);
	snprintf(c->listeners[i].where, sizeof(c->listeners[i].where), "%s", where);
	return 0;
}

static int group_unknown(const char *where, const char *word, struct fault *fault) {
	char known[256] = "";
	for (enum service_group g = 0; g < GROUP_COUNT; g++)
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", g ? ", " : "",
			 service_group_name(g));
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: unknown service group \"%s\"; there are %s", where, word,
			 known);
}

static int on_services(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	char text[256], *rest = text, *word;
	uint32_t services = 0;
	if (strlen(value) >= sizeof(text))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: more service groups than there are", where);
	snprintf(text, sizeof(text), "%s", value);
	while ((word = strsep(&rest, " \t"))) {
		int group = service_group_find(word);
		if (group >= 0)
			services |= 1u << group;
		else if (*word)
			return group_unknown(where, word, fault);
	}
	c->boot.endpoints[i].services = services;
	return 0;
}

static int on_protocol(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	int protocol = endpoint_protocol_find(value);
	if (protocol < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: protocol is grpc or ttrpc, not \"%s\"", where,
				 value);
	c->boot.endpoints[i].protocol = (uint32_t)protocol;
	return 0;
}

static int on_access(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	enum link_access access;
	if (link_access_parse(value, &access) < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: access is full, read-only or metrics, not \"%s\"",
				 where, value);
	c->boot.endpoints[i].access = access;
	return 0;
}

static int account_set(char field[CONFIG_ACCOUNT_MAX], const char *where, const char *value, struct fault *fault) {
	if (*value == '\0' || strlen(value) >= CONFIG_ACCOUNT_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: expected a name of at most %d bytes, or a number, not \"%s\"", where,
				 CONFIG_ACCOUNT_MAX - 1, value);
	snprintf(field, CONFIG_ACCOUNT_MAX, "%s", value);
	return 0;
}

static int on_owner(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	return account_set(c->listeners[i].owner, where, value, fault);
}

static int on_group(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	return account_set(c->listeners[i].group, where, value, fault);
}

static int on_mode(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	char *end;
	unsigned long mode = strtoul(value, &end, 8);
	if (!isdigit((unsigned char)value[0]) || *end || mode > 0777)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: a mode is an octal number from 0 to 0777, not \"%s\"", where, value);
	c->listeners[i].mode = (uint32_t)mode;
	return 0;
}

static int on_uids(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault) {
	struct boot_endpoint *e = &c->boot.endpoints[i];
	uint32_t uids[BOOT_UIDS_MAX] = { 0 }, n = 0;
	while (*value) {
		char *end;
		errno = 0;
		unsigned long uid = strtoul(value, &end, 10);
		if (!isdigit((unsigned char)*value) || (*end && !isspace((unsigned char)*end)) || errno ||
		    uid >= UINT32_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "%s: uids are numbers with spaces between them; \"%s\" isn't one", where,
					 value);
		if (n == BOOT_UIDS_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: more than %d uids", where, BOOT_UIDS_MAX);
		uids[n++] = (uint32_t)uid;
		value = end + strspn(end, " \t");
	}
	memcpy(e->uids, uids, n * sizeof(*uids));
	e->n_uids = n;
	return 0;
}

static const struct {
	const char *name;
	int (*set)(struct config *c, unsigned i, const char *where, const char *value, struct fault *fault);
} fields[] = {
	{ .name = "socket", .set = on_socket }, { .name = "services", .set = on_services },
	{ .name = "access", .set = on_access }, { .name = "owner", .set = on_owner },
	{ .name = "group", .set = on_group },	{ .name = "mode", .set = on_mode },
	{ .name = "uids", .set = on_uids },	{ .name = "protocol", .set = on_protocol },
};

/* The place of the endpoint of that name, a new one if need be. */
static int endpoint_place(struct config *c, const char *where, const char *name, struct fault *fault) {
	uint32_t i = 0;
	while (i < c->boot.n_endpoints && strcmp(c->boot.endpoints[i].name, name) != 0)
		i++;
	if (i == BOOT_ENDPOINTS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s: more than %d endpoints", where,
				 BOOT_ENDPOINTS_MAX);
	if (i == c->boot.n_endpoints) {
		struct boot_endpoint *e = &c->boot.endpoints[c->boot.n_endpoints++];
		*e = (struct boot_endpoint){ .access = ACCESS_FULL };
		if (strcmp(name, AGENT) == 0) {
			e->services = GROUP_BIT(AGENT);
			e->protocol = PROTOCOL_TTRPC;
		}
		if (strcmp(name, HYPERVISOR) == 0) {
			e->services = GROUP_BIT(HYPERVISOR);
			e->protocol = PROTOCOL_TTRPC;
		}
		snprintf(e->name, sizeof(e->name), "%s", name);
		c->listeners[i] = (struct listener_config)LISTENER_DEFAULT;
	}
	if (c->listeners[i].where[0] == '\0')
		snprintf(c->listeners[i].where, sizeof(c->listeners[i].where), "%s", where);
	return (int)i;
}

int endpoint_set(struct config *c, const char *where, const char *key, const char *value, struct fault *fault) {
	char name[BOOT_ENDPOINT_NAME_MAX];
	const char *field = strchr(key, '.');
	size_t size = field ? (size_t)(field - key) : strlen(key);
	snprintf(name, sizeof(name), "%.*s", (int)size, key);
	if (size >= sizeof(name) || !config_label_valid(name))
		return fault_set(
		    fault, FAULT_INVALID_ARGUMENT,
		    "%s: \"%.*s\" can't name an endpoint: at most %d small letters, digits and \"-\" within", where,
		    (int)size, key, BOOT_ENDPOINT_NAME_MAX - 1);
	for (size_t f = 0; field && f < ARRAY_SIZE(fields); f++) {
		if (strcmp(fields[f].name, field + 1) != 0)
			continue;
		int i = endpoint_place(c, where, name, fault);
		return i < 0 ? i : fields[f].set(c, (unsigned)i, where, value, fault);
	}
	return fault_set(
	    fault, FAULT_INVALID_ARGUMENT,
	    "%s: unknown key \"endpoint.%s\": an endpoint has a socket, protocol, services, access, owner, group, "
	    "mode and uids",
	    where, key);
}

/* --- all of them together --- */

/* Health alone is nobody's reason to have an endpoint. */
static bool serves(const struct boot_endpoint *e) {
	return e->services & GROUPS_SERVED & ~GROUP_BIT(HEALTH);
}

static bool by_itself(const struct config *c, const struct boot_endpoint *e) {
	return (strcmp(e->name, AGENT) == 0) == (c->boot.mode == BOOT_AGENT);
}

/* Who is at the other end of a virtual machine the kernel doesn't say. */
static int uids_check(const struct boot_endpoint *e, const char *where, struct fault *fault) {
	uint32_t cid, port;
	if (e->n_uids == 0 || (endpoint_vsock(e->socket, &cid, &port) < 0 && !endpoint_serial(e->socket)))
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT,
			 "%s: a client over vsock or a serial line has no uid: leave out endpoint.%s.uids", where,
			 e->name);
}

static int endpoint_finish(struct config *c, unsigned i, struct fault *fault) {
	struct boot_endpoint *e = &c->boot.endpoints[i];
	const char *where = c->listeners[i].where;
	if (!serves(e))
		return fault_set(
		    fault, FAULT_INVALID_ARGUMENT,
		    "%s: endpoint \"%s\" would serve nothing: name groups in endpoint.%s.services that this "
		    "version has services of",
		    where, e->name, e->name);
	if (e->socket[0] == '\0' && by_itself(c, e) && c->boot.mode == BOOT_AGENT) {
		snprintf(e->socket, sizeof(e->socket), AGENT_SOCKET);
	} else if (e->socket[0] == '\0') {
		const char *file = strcmp(e->name, "cri") == 0 ? "bulkhead" : e->name;
		int n = snprintf(e->socket, sizeof(e->socket), "%s/%s.sock", c->boot.run_root, file);
		if ((size_t)n >= sizeof(e->socket))
			return fault_set(
			    fault, FAULT_INVALID_ARGUMENT,
			    "run_root \"%s\" is too long for a socket in it: set \"endpoint.%s.socket\" to "
			    "a shorter path",
			    c->boot.run_root, e->name);
	}
	int r = uids_check(e, where, fault);
	if (r < 0)
		return r;
	for (unsigned other = 0; other < i; other++)
		if (strcmp(c->boot.endpoints[other].socket, e->socket) == 0)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "%s: endpoints \"%s\" and \"%s\" have the same socket, %s",
					 *where ? where : c->listeners[other].where, c->boot.endpoints[other].name,
					 e->name, e->socket);
	return 0;
}

/* Those that nobody asked for and that would serve nothing, or belong to the
 * other mode, aren't there. */
static void idle_drop(struct config *c) {
	uint32_t n = 0;
	for (uint32_t i = 0; i < c->boot.n_endpoints; i++) {
		const struct boot_endpoint *e = &c->boot.endpoints[i];
		if ((!serves(e) || !by_itself(c, e)) && c->listeners[i].where[0] == '\0')
			continue;
		c->boot.endpoints[n] = c->boot.endpoints[i];
		c->listeners[n++] = c->listeners[i];
	}
	for (uint32_t i = n; i < c->boot.n_endpoints; i++) {
		c->boot.endpoints[i] = (struct boot_endpoint){ 0 };
		c->listeners[i] = (struct listener_config){ 0 };
	}
	c->boot.n_endpoints = n;
}

int endpoints_finish(struct config *c, struct fault *fault) {
	idle_drop(c);
	if (c->boot.mode == BOOT_AGENT && c->boot.n_endpoints == 0)
		endpoint_place(c, "", AGENT, fault);
	for (unsigned i = 0; i < c->boot.n_endpoints; i++) {
		int r = endpoint_finish(c, i, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Where a line stands may change. */
bool endpoints_equal(const struct config *a, const struct config *b) {
	if (a->boot.n_endpoints != b->boot.n_endpoints ||
	    memcmp(a->boot.endpoints, b->boot.endpoints, sizeof(a->boot.endpoints)) != 0)
		return false;
	for (unsigned i = 0; i < a->boot.n_endpoints; i++) {
		const struct listener_config *x = &a->listeners[i], *y = &b->listeners[i];
		if (strcmp(x->owner, y->owner) != 0 || strcmp(x->group, y->group) != 0 || x->mode != y->mode)
			return false;
	}
	return true;
}
