/* What runs, as whom, with which environment. */
#include "workers/metadata/spec/parts.h"

#include "base/utf8.h"
#include "workers/metadata/check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define ARGS_MAX 65536
#define ID_MAX INT32_MAX

/* --- command ---------------------------------------------------------------- */

/* The client's command hides the image's entrypoint and, with it, its cmd; the
 * client's args hide its cmd. */
static int args(struct builder *b) {
	const Runtime__V1__ContainerConfig *c = b->config;
	struct strings s = { 0 };
	char **first = c->command, **second = c->args;
	size_t n_first = c->n_command, n_second = c->n_args;
	if (n_first == 0) {
		if (n_second == 0) {
			second = b->image->cmd;
			n_second = b->image->n_cmd;
		}
		first = b->image->entrypoint;
		n_first = b->image->n_entrypoint;
	}
	if (n_first > ARGS_MAX || n_second > ARGS_MAX)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "the command has more than %d arguments", ARGS_MAX);
	for (size_t i = 0; i < n_first; i++)
		strings_add(b, &s, first[i]);
	for (size_t i = 0; i < n_second; i++)
		strings_add(b, &s, second[i]);
	if (s.n == 0 || !*s.v[0])
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT,
				 "neither the request nor the image says what to run");
	b->spec->process->n_args = s.n;
	b->spec->process->args = s.v;
	return 0;
}

/* --- environment ------------------------------------------------------------ */

/* "NAME=value" takes the place of an earlier one of that name. */
static void env_set(struct builder *b, struct strings *env, const char *entry, size_t name) {
	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], entry, name + 1) == 0) {
			env->v[i] = (char *)(uintptr_t)entry;
			return;
		}
	strings_add(b, env, entry);
}

static int env_of_client(struct builder *b, struct strings *env) {
	for (size_t i = 0; i < b->config->n_envs; i++) {
		const Runtime__V1__KeyValue *kv = b->config->envs[i];
		if (!*kv->key || strchr(kv->key, '='))
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "\"%.128s\" is no name of a variable",
					 kv->key);
		int r = check_text("the name of a variable", kv->key, b->fault);
		if (r < 0)
			return r;
		if (kv->value.len && memchr(kv->value.data, '\0', kv->value.len))
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "variable \"%.128s\" contains a NUL byte",
					 kv->key);
		if (!utf8_valid(kv->value.data, kv->value.len))
			return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "variable \"%.128s\" isn't UTF-8", kv->key);
		size_t name = strlen(kv->key);
		char *entry = builder_alloc(b, name + kv->value.len + 2);
		if (!entry)
			return 0;
		memcpy(entry, kv->key, name);
		entry[name] = '=';
		if (kv->value.len)
			memcpy(entry + name + 1, kv->value.data, kv->value.len);
		env_set(b, env, entry, name);
	}
	return 0;
}

static int env(struct builder *b) {
	struct strings e = { 0 };
	const char *host = *b->pod->hostname ? b->pod->hostname : b->in->hostname;
	strings_add(b, &e, DEFAULT_PATH);
	if (b->config->tty)
		strings_add(b, &e, "TERM=xterm");
	strings_add(b, &e, builder_text(b, "HOSTNAME=%s", host));
	for (size_t i = 0; i < b->image->n_env; i++) {
		const char *entry = b->image->env[i], *is = strchr(entry, '=');
		if (is && is > entry)
			env_set(b, &e, entry, (size_t)(is - entry));
	}
	int r = env_of_client(b, &e);
	b->spec->process->n_env = e.n;
	b->spec->process->env = e.v;
	return r;
}

static int cwd(struct builder *b) {
	Grpc__Process *p = b->spec->process;
	if (*b->config->working_dir) {
		p->cwd = b->config->working_dir;
		return check_path("the working folder", p->cwd, b->fault);
	}
	const char *image = b->image->working_dir;
	p->cwd = !*image ? (char *)"/" : *image == '/' ? (char *)(uintptr_t)image : builder_text(b, "/%s", image);
	return 0;
}

/* --- user ------------------------------------------------------------------- */

static int check_id(struct builder *b, const char *what, int64_t id) {
	if (id < 0 || id > ID_MAX)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "%s %lld is out of range: 0 to %d", what,
				 (long long)id, ID_MAX);
	return 0;
}

/* Whom the client wants: "user", "uid", either with ":gid"; empty when it
 * leaves it to the image. */
static int user_of_client(struct builder *b, const char **ret_user) {
	const Runtime__V1__LinuxContainerSecurityContext *s = b->security;
	const char *name = s->run_as_username;
	int r = s->run_as_user ? check_id(b, "user id", s->run_as_user->value) : 0;
	if (r == 0 && s->run_as_group)
		r = check_id(b, "group id", s->run_as_group->value);
	if (r < 0)
		return r;
	*ret_user = "";
	if (!*name && !s->run_as_user && s->run_as_group)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "group id %lld is given without a user",
				 (long long)s->run_as_group->value);
	if (!*name && s->run_as_user)
		name = builder_text(b, "%lld", (long long)s->run_as_user->value);
	*ret_user = *name && s->run_as_group ? builder_text(b, "%s:%lld", name, (long long)s->run_as_group->value)
					     : name;
	return 0;
}

static int groups(struct builder *b, Grpc__User *u) {
	const Runtime__V1__LinuxContainerSecurityContext *s = b->security;
	if (s->supplemental_groups_policy == RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Strict)
		builder_annotate(b, SPEC_GROUPS, "strict");
	else if (s->supplemental_groups_policy != RUNTIME__V1__SUPPLEMENTAL_GROUPS_POLICY__Merge)
		return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "unknown supplementalGroupsPolicy %d",
				 (int)s->supplemental_groups_policy);
	u->additionalgids = builder_alloc(b, (s->n_supplemental_groups + 1) * sizeof(*u->additionalgids));
	for (size_t i = 0; u->additionalgids && i < s->n_supplemental_groups; i++) {
		int r = check_id(b, "supplementary group", s->supplemental_groups[i]);
		if (r < 0)
			return r;
		u->additionalgids[u->n_additionalgids++] = (uint32_t)s->supplemental_groups[i];
	}
	return 0;
}

static int user(struct builder *b) {
	const char *who;
	NEW(b, u, User, USER);
	if (!u)
		return 0;
	b->spec->process->user = u;
	int r = user_of_client(b, &who);
	if (r < 0)
		return r;
	if (!*who)
		who = b->image->user;
	/* Root by number is looked up too: its groups in /etc/group are its own. */
	u->username = (char *)(uintptr_t)(*who ? who : "0");
	r = check_text("the user", u->username, b->fault);
	return r < 0 ? r : groups(b, u);
}

int spec_process(struct builder *b) {
	Grpc__Process *p = b->spec->process;
	p->terminal = b->config->tty;
	p->oomscoreadj = b->resources->oom_score_adj;
	p->nonewprivileges = b->security->no_new_privs;
	int r = args(b);
	if (r == 0)
		r = env(b);
	if (r == 0)
		r = cwd(b);
	return r < 0 ? r : user(b);
}
