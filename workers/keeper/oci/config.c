/*
 * A Spec as a runtime's config.json.
 *
 * Left out is what the keeper has done by itself: host name, sysctls, limits of
 * the control group. Namespaces that the specification doesn't name are the
 * pod's, and the runtime is executed in them. /dev/shm is the pod's, and lies in
 * the bundle, as volumes from images do. Client's strings go through json_text only.
 */
#include "workers/keeper/oci/oci.h"

#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void texts(struct json *j, const char *key, char *const *list, size_t n) {
	json_open(j, key, '[');
	for (size_t i = 0; i < n; i++)
		json_text(j, NULL, list[i]);
	json_close(j, ']');
}

/* --- mounts --- */

static bool is_shm(const Grpc__Mount *m) {
	return strcmp(m->destination, "/dev/shm") == 0 && strcmp(m->type, "tmpfs") == 0 &&
	       strcmp(m->source, "shm") == 0;
}

static void bind(struct json *j, const char *destination, const char *source, bool readonly) {
	json_open(j, NULL, '{');
	json_text(j, "destination", destination);
	json_text(j, "type", "bind");
	json_text(j, "source", source);
	json_open(j, "options", '[');
	json_text(j, NULL, "rbind");
	json_text(j, NULL, "rprivate");
	if (readonly)
		json_text(j, NULL, "ro");
	json_close(j, ']');
	json_close(j, '}');
}

/* Options for the keeper are none of the runtime's. */
static int options(struct json *j, const Grpc__Mount *m, bool image, struct fault *fault) {
	json_open(j, "options", '[');
	if (image)
		json_text(j, NULL, "rbind");
	for (size_t i = 0; i < m->n_options; i++) {
		if (strcmp(m->options[i], "x-make-source") == 0)
			continue;
		if (strcmp(m->options[i], "idmap") == 0)
			return fault_set(fault, FAULT_UNIMPLEMENTED,
					 "mount \"%s\": only the native runtime handler maps owners", m->destination);
		json_text(j, NULL, m->options[i]);
	}
	json_close(j, ']');
	return 0;
}

static int mount(struct json *j, const struct oci_config *c, const Grpc__Mount *m, struct fault *fault) {
	char shm[PATH_MAX + 8], volume[PATH_MAX + 32];
	if (is_shm(m)) {
		snprintf(shm, sizeof(shm), "%s/shm", c->place->bundle);
		bind(j, m->destination, shm, false);
		return 0;
	}
	bool image = strcmp(m->type, "image") == 0;
	snprintf(volume, sizeof(volume), "%s/" OCI_IMAGE_NAME, c->place->bundle, m->source);
	json_open(j, NULL, '{');
	json_text(j, "destination", m->destination);
	json_text(j, "type", image ? "bind" : m->type);
	json_text(j, "source", image ? volume : m->source);
	int r = options(j, m, image, fault);
	json_close(j, '}');
	return r;
}

static bool mentioned(const Grpc__Spec *spec, const char *path) {
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->destination, path) == 0)
			return true;
	return false;
}

/* Files of the pod that the specification doesn't mention. */
static void pod_files(struct json *j, const struct oci_config *c) {
	static const char *const names[] = { "hosts", "resolv.conf", "hostname" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char source[PATH_MAX + 16], target[64];
		snprintf(target, sizeof(target), "/etc/%s", names[i]);
		snprintf(source, sizeof(source), "%s/%s", c->run_dir, names[i]);
		if (!mentioned(c->spec, target) && access(source, F_OK) == 0)
			bind(j, target, source, c->spec->root && c->spec->root->readonly);
	}
}

static int mounts(struct json *j, const struct oci_config *c, struct fault *fault) {
	int r = 0;
	json_open(j, "mounts", '[');
	for (size_t i = 0; r == 0 && i < c->spec->n_mounts; i++)
		r = mount(j, c, c->spec->mounts[i], fault);
	pod_files(j, c);
	json_close(j, ']');
	return r;
}

/* --- namespaces and devices --- */

static void namespaces(struct json *j, const struct oci_config *c, const Grpc__Linux *l) {
	static const char *const own[] = { "mount", "pid", "cgroup" };
	char path[64];
	json_open(j, "namespaces", '[');
	for (size_t i = 0; i < l->n_namespaces; i++)
		for (size_t k = 0; k < ARRAY_SIZE(own); k++)
			if (strcmp(l->namespaces[i]->type, own[k]) == 0) {
				json_open(j, NULL, '{');
				json_text(j, "type", own[k]);
				json_close(j, '}');
			}
	if (c->pid_namespace) {
		snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)c->pid_namespace);
		json_open(j, NULL, '{');
		json_text(j, "type", "pid");
		json_text(j, "path", path);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void devices(struct json *j, const Grpc__Linux *l) {
	json_open(j, "devices", '[');
	for (size_t i = 0; i < l->n_devices; i++) {
		const Grpc__LinuxDevice *d = l->devices[i];
		json_open(j, NULL, '{');
		json_text(j, "path", d->path);
		json_text(j, "type", d->type);
		json_number(j, "major", d->major);
		json_number(j, "minor", d->minor);
		json_number(j, "fileMode", d->filemode);
		json_number(j, "uid", d->uid);
		json_number(j, "gid", d->gid);
		json_close(j, '}');
	}
	json_close(j, ']');
}

static void device_rule(struct json *j, const Grpc__LinuxDeviceCgroup *d) {
	bool any = d->type[0] == '\0' || d->type[0] == 'a';
	json_open(j, NULL, '{');
	json_bool(j, "allow", d->allow);
	json_text(j, "type", any ? "a" : d->type);
	/* "a" is every number, whatever the fields hold. */
	if (!any && d->major >= 0)
		json_number(j, "major", d->major);
	if (!any && d->minor >= 0)
		json_number(j, "minor", d->minor);
	json_text(j, "access", d->access);
	json_close(j, '}');
}

/* Nothing but what is allowed: the devices that every container has are added
 * by the runtime. */
static void device_rules(struct json *j, const Grpc__LinuxResources *r) {
	static const Grpc__LinuxDeviceCgroup nothing = { .type = (char *)"a", .access = (char *)"rwm" };
	json_open(j, "resources", '{');
	json_open(j, "devices", '[');
	device_rule(j, &nothing);
	for (size_t i = 0; r && i < r->n_devices; i++)
		device_rule(j, r->devices[i]);
	json_close(j, ']');
	json_close(j, '}');
}

/* --- seccomp, as the task worker has expanded it --- */

static void seccomp_call(struct json *j, const Grpc__LinuxSyscall *s) {
	json_open(j, NULL, '{');
	texts(j, "names", s->names, s->n_names);
	json_text(j, "action", s->action);
	if (s->errno_ret_case == GRPC__LINUX_SYSCALL__ERRNO_RET_ERRNORET)
		json_number(j, "errnoRet", s->errnoret);
	json_open(j, "args", '[');
	for (size_t i = 0; i < s->n_args; i++) {
		json_open(j, NULL, '{');
		json_unsigned(j, "index", s->args[i]->index);
		json_unsigned(j, "value", s->args[i]->value);
		json_unsigned(j, "valueTwo", s->args[i]->valuetwo);
		json_text(j, "op", s->args[i]->op);
		json_close(j, '}');
	}
	json_close(j, ']');
	json_close(j, '}');
}

static void seccomp(struct json *j, const Grpc__LinuxSeccomp *s) {
	json_open(j, "seccomp", '{');
	json_text(j, "defaultAction", s->defaultaction);
	if (s->n_architectures)
		texts(j, "architectures", s->architectures, s->n_architectures);
	if (s->n_flags)
		texts(j, "flags", s->flags, s->n_flags);
	json_open(j, "syscalls", '[');
	for (size_t i = 0; i < s->n_syscalls; i++)
		seccomp_call(j, s->syscalls[i]);
	json_close(j, ']');
	json_close(j, '}');
}

/* --- the whole --- */

static void linux_part(struct json *j, const struct oci_config *c) {
	const Grpc__Linux *l = c->spec->linux;
	json_open(j, "linux", '{');
	json_text(j, "cgroupsPath", c->cgroup);
	namespaces(j, c, l);
	devices(j, l);
	device_rules(j, l->resources);
	if (l->seccomp)
		seccomp(j, l->seccomp);
	if (l->rootfspropagation[0])
		json_text(j, "rootfsPropagation", l->rootfspropagation);
	texts(j, "maskedPaths", l->maskedpaths, l->n_maskedpaths);
	texts(j, "readonlyPaths", l->readonlypaths, l->n_readonlypaths);
	json_close(j, '}');
}

int oci_config_write(const struct oci_config *c, struct buffer *to, struct fault *fault) {
	struct json j = { .first = true };
	json_open(&j, NULL, '{');
	json_text(&j, "ociVersion", c->spec->version[0] ? c->spec->version : "1.0.2");
	json_open(&j, "root", '{');
	json_text(&j, "path", "rootfs");
	json_bool(&j, "readonly", c->spec->root && c->spec->root->readonly);
	json_close(&j, '}');
	int r = oci_process_write(c, "process", &j, fault);
	if (r == 0)
		r = mounts(&j, c, fault);
	if (r == 0)
		linux_part(&j, c);
	json_close(&j, '}');
	if (r == 0 && j.text.failed)
		r = fault_errno(fault, ENOMEM, "write the runtime's configuration");
	if (r == 0)
		*to = buffer_take(&j.text);
	buffer_deinit(&j.text);
	return r;
}
