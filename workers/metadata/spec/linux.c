/* Namespaces, hidden paths, devices, seccomp and what else only Linux has. */
#include "workers/metadata/spec/parts.h"

#include "workers/metadata/check.h"
#include "workers/metadata/userns.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What the ecosystem hides of /proc and /sys. */
static const char *const masked[] = {
	"/proc/acpi",	    "/proc/asound",	 "/proc/kcore",	      "/proc/keys",    "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/sys/devices/virtual/powercap",
	"/proc/scsi",
};
static const char *const locked[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger" };

static void paths(struct builder *b) {
	Grpc__Linux *l = b->spec->linux;
	if (b->privileged)
		return;
	l->n_maskedpaths = ARRAY_SIZE(masked);
	l->maskedpaths = (char **)(uintptr_t)masked;
	l->n_readonlypaths = ARRAY_SIZE(locked);
	l->readonlypaths = (char **)(uintptr_t)locked;
	if (b->security->n_masked_paths) {
		l->n_maskedpaths = b->security->n_masked_paths;
		l->maskedpaths = b->security->masked_paths;
	}
	if (b->security->n_readonly_paths) {
		l->n_readonlypaths = b->security->n_readonly_paths;
		l->readonlypaths = b->security->readonly_paths;
	}
}

static int check_paths(struct builder *b, const char *what, char *const *list, size_t n) {
	for (size_t i = 0; i < n; i++) {
		int r = check_path(what, list[i], b->fault);
		if (r < 0)
			return r;
	}
	return 0;
}

static void own_namespace(struct builder *b, const char *type) {
	Grpc__Linux *l = b->spec->linux;
	NEW(b, n, LinuxNamespace, LINUX_NAMESPACE);
	if (!n)
		return;
	n->type = (char *)(uintptr_t)type;
	APPEND(b, l->namespaces, l->n_namespaces, n);
}

static int namespaces(struct builder *b) {
	const Runtime__V1__NamespaceOption *pod = sandbox_namespaces(b->pod);
	own_namespace(b, "mount");
	if (!b->privileged)
		own_namespace(b, "cgroup");
	switch (b->namespaces->pid) {
	case RUNTIME__V1__NAMESPACE_MODE__CONTAINER:
		own_namespace(b, "pid");
		break;
	case RUNTIME__V1__NAMESPACE_MODE__TARGET:
		if (!*b->namespaces->target_id)
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
					 "the PID namespace is another container's, but the request doesn't name it");
		break;
	case RUNTIME__V1__NAMESPACE_MODE__POD:
	case RUNTIME__V1__NAMESPACE_MODE__NODE:
		break;
	default:
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "unknown PID namespace mode %d",
				 (int)b->namespaces->pid);
	}
	/* A client that sends no options means what the pod has. */
	if (b->security->namespace_options &&
	    (b->namespaces->network != pod->network || b->namespaces->ipc != pod->ipc))
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "network and IPC namespace of a container are its pod's, but the modes differ");
	const Runtime__V1__UserNamespace *ours = b->namespaces->userns_options, *pods = userns_of(b->pod);
	bool own = ours && ours->mode != RUNTIME__V1__NAMESPACE_MODE__NODE;
	if (own && (!pods || ours->mode != pods->mode ||
		    !userns_same_map(ours->uids, ours->n_uids, pods->uids, pods->n_uids) ||
		    !userns_same_map(ours->gids, ours->n_gids, pods->gids, pods->n_gids)))
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "the user namespace of a container is its pod's, but the options differ");
	if (ours && !own && pods)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "the pod has a user namespace, but the container asks for the node's");
	return 0;
}

/* --- devices ---------------------------------------------------------------- */

static void device_rule(struct builder *b, bool allow, const char *access) {
	Grpc__LinuxResources *r = b->spec->linux->resources;
	NEW(b, d, LinuxDeviceCgroup, LINUX_DEVICE_CGROUP);
	if (!d)
		return;
	d->allow = allow;
	d->type = (char *)"a";
	d->access = (char *)(uintptr_t)access;
	APPEND(b, r->devices, r->n_devices, d);
}

static int devices(struct builder *b) {
	if (b->privileged) {
		device_rule(b, true, "rwm");
		builder_annotate(b, SPEC_PRIVILEGED, "true");
	}
	for (size_t i = 0; i < b->config->n_devices; i++) {
		const Runtime__V1__Device *d = b->config->devices[i];
		const char *inside = *d->container_path ? d->container_path : d->host_path;
		int r = check_path("device", d->host_path, b->fault);
		if (r == 0)
			r = check_path("device", inside, b->fault);
		if (r == 0 && strspn(d->permissions, "rwm") != strlen(d->permissions))
			r = fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				      "device \"%.256s\": permissions \"%.16s\" may be of r, w and m", d->host_path,
				      d->permissions);
		if (r < 0)
			return r;
		builder_annotate(b, builder_text(b, SPEC_DEVICE "%zu", i),
				 builder_text(b, "%s\n%s\n%s", d->host_path, inside, d->permissions));
	}
	for (size_t i = 0; i < b->config->n_cdi_devices; i++)
		builder_annotate(b, builder_text(b, SPEC_CDI "%zu", i), b->config->cdi_devices[i]->name);
	return 0;
}

/* --- seccomp, AppArmor, SELinux ------------------------------------------------------ */

/* Fields that the CRI has given up and older clients still send. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static const char *old_seccomp(const struct builder *b) {
	return b->security->seccomp_profile_path;
}
static const char *old_apparmor(const struct builder *b) {
	return b->security->apparmor_profile;
}
#pragma GCC diagnostic pop

/* The older form of the same, a word or "localhost/<path>". */
static int seccomp_by_path(struct builder *b, const char *path, const char **ret) {
	if (!*path || strcmp(path, "unconfined") == 0)
		*ret = "unconfined";
	else if (strcmp(path, "runtime/default") == 0 || strcmp(path, "docker/default") == 0)
		*ret = "runtime/default";
	else if (strncmp(path, "localhost/", 10) == 0)
		*ret = path;
	else
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "\"%.128s\" is no seccomp profile", path);
	return check_text("the seccomp profile", path, b->fault);
}

static int seccomp(struct builder *b) {
	const Runtime__V1__SecurityProfile *p = b->security->seccomp;
	const char *value = "unconfined";
	int r = 0;
	if (b->privileged)
		;
	else if (!p)
		r = seccomp_by_path(b, old_seccomp(b), &value);
	else if (p->profile_type == RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__RuntimeDefault)
		value = "runtime/default";
	else if (p->profile_type == RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost) {
		if (!*p->localhost_ref)
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
					 "the seccomp profile is a file, but the request doesn't name it");
		r = check_text("the seccomp profile", p->localhost_ref, b->fault);
		bool prefixed = strncmp(p->localhost_ref, "localhost/", 10) == 0;
		value = prefixed ? p->localhost_ref : builder_text(b, "localhost/%s", p->localhost_ref);
	}
	builder_annotate(b, SPEC_SECCOMP, value);
	return r;
}

static int apparmor(struct builder *b) {
	const Runtime__V1__SecurityProfile *p = b->security->apparmor;
	bool named = p ? p->profile_type == RUNTIME__V1__SECURITY_PROFILE__PROFILE_TYPE__Localhost
		       : strncmp(old_apparmor(b), "localhost/", 10) == 0;
	if (!named || b->privileged)
		return 0;
	const char *name = p ? p->localhost_ref : old_apparmor(b);
	if (strncmp(name, "localhost/", 10) == 0)
		name += 10;
	if (!*name)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "the AppArmor profile is a loaded one, but the request doesn't name it");
	b->spec->process->apparmorprofile = (char *)(uintptr_t)name;
	return check_text("the AppArmor profile", name, b->fault);
}

static int selinux(struct builder *b) {
	const Runtime__V1__SELinuxOption *o = b->security->selinux_options;
	if (!o || b->privileged || !(*o->user || *o->role || *o->type || *o->level))
		return 0;
	char *label = builder_text(b, "%s:%s:%s:%s", *o->user ? o->user : "system_u", *o->role ? o->role : "system_r",
				   *o->type ? o->type : "container_t", *o->level ? o->level : "s0");
	b->spec->process->selinuxlabel = label;
	return check_text("the SELinux label", label, b->fault);
}

static void propagation(struct builder *b) {
	Runtime__V1__MountPropagation most = RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_PRIVATE;
	for (size_t i = 0; i < b->config->n_mounts; i++)
		most = MAX(most, b->config->mounts[i]->propagation);
	if (most == RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_HOST_TO_CONTAINER)
		b->spec->linux->rootfspropagation = (char *)"rslave";
	else if (most == RUNTIME__V1__MOUNT_PROPAGATION__PROPAGATION_BIDIRECTIONAL)
		b->spec->linux->rootfspropagation = (char *)"rshared";
}

int spec_linux(struct builder *b) {
	paths(b);
	propagation(b);
	int r = check_paths(b, "masked path", b->security->masked_paths, b->security->n_masked_paths);
	if (r == 0)
		r = check_paths(b, "read-only path", b->security->readonly_paths, b->security->n_readonly_paths);
	if (r == 0)
		r = namespaces(b);
	if (r == 0)
		r = devices(b);
	if (r == 0)
		r = seccomp(b);
	if (r == 0)
		r = apparmor(b);
	return r < 0 ? r : selinux(b);
}
