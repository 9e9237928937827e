#include "workers/metadata/check.h"
#include "workers/metadata/userns.h"

#include <ctype.h>
#include <string.h>

#define NAME_MAX_BYTES 1024

int check_text(const char *what, const char *text, struct fault *fault) {
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		if (*p < 0x20 || *p == 0x7f)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s contains a control character (0x%02x)",
					 what, *p);
	return 0;
}

static bool has_dotdot(const char *path) {
	for (const char *p = path; (p = strstr(p, "..")); p += 2)
		if ((p == path || p[-1] == '/') && (p[2] == '/' || p[2] == '\0'))
			return true;
	return false;
}

int check_path(const char *what, const char *path, struct fault *fault) {
	if (path[0] != '/')
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.256s\" must be an absolute path", what, path);
	if (strlen(path) >= 4096)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.64s...\" is longer than a path can be", what,
				 path);
	if (has_dotdot(path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.256s\" must not contain \"..\"", what, path);
	return check_text(what, path, fault);
}

int check_relative_path(const char *what, const char *path, struct fault *fault) {
	if (path[0] == '/' || has_dotdot(path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.256s\" must be relative, without \"..\"", what,
				 path);
	if (strlen(path) >= 4096)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.64s...\" is longer than a path can be", what,
				 path);
	return check_text(what, path, fault);
}

/* --- sysctls ---------------------------------------------------------------- */

enum sysctl_space { SPACE_NET, SPACE_IPC };

/* A closed list: what the kernel keeps per namespace. A name that ends with a
 * dot covers all below it. */
static const struct {
	const char *name;
	enum sysctl_space space;
} namespaced[] = {
	{ "net.", SPACE_NET },		{ "kernel.shm_rmid_forced", SPACE_IPC }, { "kernel.shmall", SPACE_IPC },
	{ "kernel.shmmax", SPACE_IPC }, { "kernel.shmmni", SPACE_IPC },		 { "kernel.msgmax", SPACE_IPC },
	{ "kernel.msgmnb", SPACE_IPC }, { "kernel.msgmni", SPACE_IPC },		 { "kernel.sem", SPACE_IPC },
	{ "fs.mqueue.", SPACE_IPC },
};

static bool sysctl_grammar(const char *name) {
	const char *p = name;
	for (; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-/", *p))
			return false;
	return p > name && p - name < 256 && !strstr(name, "..") && !strstr(name, "//") && name[0] != '/' &&
	       name[0] != '.';
}

int check_sysctl(const char *name, const char *value, bool host_network, bool host_ipc, struct fault *fault) {
	char dotted[256];
	if (!sysctl_grammar(name))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "sysctl \"%.128s\" is no valid name", name);
	/* "net/ipv4/..." is the same as "net.ipv4. ..."; an interface's dot in
	 * the first form stays where it is, which only the prefixes look at. */
	size_t n = strlen(name);
	memcpy(dotted, name, n + 1);
	for (char *p = dotted; *p; p++)
		if (*p == '/')
			*p = '.';
	for (size_t i = 0; i < ARRAY_SIZE(namespaced); i++) {
		size_t len = strlen(namespaced[i].name);
		bool all = namespaced[i].name[len - 1] == '.';
		if (strncmp(dotted, namespaced[i].name, len) != 0 || (!all && n != len))
			continue;
		if (namespaced[i].space == SPACE_NET ? host_network : host_ipc)
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "sysctl \"%s\" is the host's: the pod shares its %s namespace", name,
					 namespaced[i].space == SPACE_NET ? "network" : "IPC");
		return check_text("the value of a sysctl", value, fault);
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "sysctl \"%s\" is not kept per namespace", name);
}

/* --- pod sandboxes ---------------------------------------------------------- */

const Runtime__V1__NamespaceOption *sandbox_namespaces(const Runtime__V1__PodSandboxConfig *c) {
	static const Runtime__V1__NamespaceOption none = RUNTIME__V1__NAMESPACE_OPTION__INIT;
	if (!c->linux || !c->linux->security_context || !c->linux->security_context->namespace_options)
		return &none;
	return c->linux->security_context->namespace_options;
}

static bool hostname_valid(const char *name) {
	size_t n = strlen(name);
	if (n > 63)
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '.')
			return false;
	return name[0] != '-' && name[0] != '.';
}

/* What becomes a word of a line in resolv.conf. */
static int check_words(const char *what, char *const *words, size_t n, struct fault *fault) {
	for (size_t i = 0; i < n; i++) {
		if (words[i][strcspn(words[i], " \t#;")] != '\0' || !words[i][0])
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s \"%.128s\" is no single word", what,
					 words[i]);
		int r = check_text(what, words[i], fault);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_dns(const Runtime__V1__DNSConfig *d, struct fault *fault) {
	if (!d)
		return 0;
	for (size_t i = 0; i < d->n_servers; i++) {
		/* An address, in case of a link-local one with "%interface". */
		size_t n = strspn(d->servers[i], "0123456789abcdefABCDEF.:");
		if (n == 0 || (d->servers[i][n] != '\0' && d->servers[i][n] != '%'))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "DNS server \"%.128s\" is no address",
					 d->servers[i]);
	}
	int r = check_words("DNS server", d->servers, d->n_servers, fault);
	if (r == 0)
		r = check_words("DNS search domain", d->searches, d->n_searches, fault);
	return r < 0 ? r : check_words("DNS option", d->options, d->n_options, fault);
}

static int check_ports(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) {
	for (size_t i = 0; i < c->n_port_mappings; i++) {
		const Runtime__V1__PortMapping *p = c->port_mappings[i];
		if (p->host_port < 0 || p->host_port > 65535 || p->container_port < 0 || p->container_port > 65535)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "port mapping %d to %d: a port is 0 to 65535",
					 p->host_port, p->container_port);
		if ((unsigned)p->protocol > RUNTIME__V1__PROTOCOL__SCTP)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "port mapping %d: unknown protocol %d",
					 p->host_port, (int)p->protocol);
		int r = check_text("the address of a port mapping", p->host_ip, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_namespaces(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) {
	const Runtime__V1__NamespaceOption *n = sandbox_namespaces(c);
	if (n->network != RUNTIME__V1__NAMESPACE_MODE__POD && n->network != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the network namespace of a pod is its own or the node's");
	if (n->ipc != RUNTIME__V1__NAMESPACE_MODE__POD && n->ipc != RUNTIME__V1__NAMESPACE_MODE__NODE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the IPC namespace of a pod is its own or the node's");
	if ((unsigned)n->pid > RUNTIME__V1__NAMESPACE_MODE__NODE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the PID namespace of a pod is POD, CONTAINER or NODE");
	return userns_check(c, fault);
}

static int check_linux(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) {
	const Runtime__V1__LinuxPodSandboxConfig *l = c->linux;
	if (!l)
		return 0;
	if (*l->cgroup_parent) {
		/* systemd's form, "a-b.slice", is a name without slashes. */
		bool slice = !strchr(l->cgroup_parent, '/');
		int r = slice ? check_text("the cgroup parent", l->cgroup_parent, fault)
			      : check_path("the cgroup parent", l->cgroup_parent, fault);
		if (r < 0)
			return r;
	}
	const Runtime__V1__NamespaceOption *n = sandbox_namespaces(c);
	for (size_t i = 0; i < l->n_sysctls; i++) {
		int r = check_sysctl(l->sysctls[i]->key, l->sysctls[i]->value,
				     n->network == RUNTIME__V1__NAMESPACE_MODE__NODE,
				     n->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_name(const char *what, const char *name, bool required, struct fault *fault) {
	if (required && !*name)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s is missing", what);
	if (strlen(name) > NAME_MAX_BYTES)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%s is longer than %d bytes", what, NAME_MAX_BYTES);
	return check_text(what, name, fault);
}

int check_sandbox_config(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) {
	if (!c || !c->metadata)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request has no pod sandbox metadata");
	int r = check_name("the pod's name", c->metadata->name, true, fault);
	if (r == 0)
		r = check_name("the pod's namespace", c->metadata->namespace_, false, fault);
	if (r == 0)
		r = check_name("the pod's uid", c->metadata->uid, false, fault);
	if (r == 0 && *c->hostname && !hostname_valid(c->hostname))
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.128s\" is no valid host name", c->hostname);
	if (r == 0 && *c->log_directory)
		r = check_path("the log directory", c->log_directory, fault);
	if (r == 0)
		r = check_dns(c->dns_config, fault);
	if (r == 0)
		r = check_ports(c, fault);
	if (r == 0)
		r = check_namespaces(c, fault);
	return r < 0 ? r : check_linux(c, fault);
}

/* --- containers ------------------------------------------------------------- */

/* "vendor/class=name" */
static int check_cdi(const char *name, struct fault *fault) {
	const char *slash = strchr(name, '/'), *is = strchr(name, '=');
	bool good = slash && is && slash > name && is > slash + 1 && is[1] && strlen(name) < 1024;
	for (const char *p = name; good && *p; p++)
		good = isalnum((unsigned char)*p) || strchr("-_.:/=", *p);
	if (good)
		return 0;
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.128s\" is no name of a CDI device (vendor/class=name)",
			 name);
}

int check_container_config(const Runtime__V1__ContainerConfig *c, struct fault *fault) {
	if (!c || !c->metadata)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request has no container metadata");
	if (!c->image || !*c->image->image)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request names no image");
	int r = check_name("the container's name", c->metadata->name, true, fault);
	if (r == 0)
		r = check_relative_path("log path", c->log_path, fault);
	for (size_t i = 0; r == 0 && i < c->n_cdi_devices; i++)
		r = check_cdi(c->cdi_devices[i]->name, fault);
	return r;
}
