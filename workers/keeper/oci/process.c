/* What a container's or a command's process is, as a runtime reads it. What
 * this machine can't grant is left out with a warning, as for native ones. */
#include "workers/keeper/oci/oci.h"

#include "base/json.h"
#include "workers/keeper/caps.h"
#include "workers/keeper/limits.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void texts(struct json *j, const char *key, char *const *list, size_t n) {
	json_open(j, key, '[');
	for (size_t i = 0; i < n; i++)
		json_text(j, NULL, list[i]);
	json_close(j, ']');
}

static void user(struct json *j, const struct user_ids *u) {
	json_open(j, "user", '{');
	json_number(j, "uid", u->uid);
	json_number(j, "gid", u->gid);
	json_open(j, "additionalGids", '[');
	for (size_t i = 0; i < u->n_groups; i++)
		json_number(j, NULL, u->groups[i]);
	json_close(j, ']');
	json_close(j, '}');
}

static bool env_has(const Grpc__Process *p, const char *prefix) {
	for (size_t i = 0; i < p->n_env; i++)
		if (strncmp(p->env[i], prefix, strlen(prefix)) == 0)
			return true;
	return false;
}

/* The environment with what every program may expect in it. */
static void environment(struct json *j, const Grpc__Process *p, const struct user_ids *u) {
	char home[USER_HOME_MAX + 8];
	json_open(j, "env", '[');
	for (size_t i = 0; i < p->n_env; i++)
		json_text(j, NULL, p->env[i]);
	if (!env_has(p, "PATH="))
		json_text(j, NULL, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	if (!env_has(p, "HOME=")) {
		snprintf(home, sizeof(home), "HOME=%s", u->home);
		json_text(j, NULL, home);
	}
	if (p->terminal && !env_has(p, "TERM="))
		json_text(j, NULL, "TERM=xterm");
	json_close(j, ']');
}

static void set(struct json *j, const char *key, uint64_t caps) {
	json_open(j, key, '[');
	for (unsigned i = 0; i < 64; i++)
		if (caps >> i & 1)
			json_text(j, NULL, caps_name(i));
	json_close(j, ']');
}

static void missing_warn(const struct oci_config *c, uint64_t missing) {
	char names[512] = "";
	for (unsigned i = 0; i < 64; i++) {
		size_t used = strlen(names);
		if (missing >> i & 1)
			snprintf(names + used, sizeof(names) - used, "%s%s", used ? ", " : "", caps_name(i));
	}
	if (missing)
		become_warn(c->status, "not granted, since bulkhead itself does not have them: %s", names);
}

static int capabilities(struct json *j, const struct oci_config *c, struct fault *fault) {
	struct caps caps;
	uint64_t missing;
	int r = caps_parse(c->process->capabilities, &caps, &missing, fault);
	if (r < 0)
		return r;
	missing_warn(c, missing);
	json_open(j, "capabilities", '{');
	set(j, "bounding", caps.bounding);
	set(j, "effective", caps.effective);
	set(j, "permitted", caps.permitted);
	set(j, "inheritable", caps.ambient);
	set(j, "ambient", caps.ambient);
	json_close(j, '}');
	return 0;
}

static int limits(struct json *j, const struct oci_config *c, struct fault *fault) {
	const Grpc__Process *p = c->process;
	json_open(j, "rlimits", '[');
	for (size_t i = 0; i < p->n_rlimits; i++) {
		struct rlimit l;
		int r = limits_granted(p->rlimits[i], c->status, &l, fault);
		if (r < 0)
			return r;
		json_open(j, NULL, '{');
		json_text(j, "type", p->rlimits[i]->type);
		json_unsigned(j, "hard", l.rlim_max);
		json_unsigned(j, "soft", l.rlim_cur);
		json_close(j, '}');
	}
	json_close(j, ']');
	return 0;
}

/* The oom score isn't in it: the runtime inherits it from its maker. */
int oci_process_write(const struct oci_config *c, const char *key, struct json *j, struct fault *fault) {
	const Grpc__Process *p = c->process;
	json_open(j, key, '{');
	json_bool(j, "terminal", p->terminal);
	user(j, c->user);
	texts(j, "args", p->args, p->n_args);
	environment(j, p, c->user);
	json_text(j, "cwd", p->cwd[0] ? p->cwd : "/");
	json_bool(j, "noNewPrivileges", p->nonewprivileges);
	if (p->apparmorprofile[0])
		json_text(j, "apparmorProfile", p->apparmorprofile);
	if (p->selinuxlabel[0] && access("/sys/fs/selinux/enforce", F_OK) == 0)
		json_text(j, "selinuxLabel", p->selinuxlabel);
	int r = capabilities(j, c, fault);
	if (r == 0)
		r = limits(j, c, fault);
	json_close(j, '}');
	return r;
}
