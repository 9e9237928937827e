/*
 * runtime_info: what this machine offers to pods, and what it lacks.
 *
 * Owns: nothing; the facts about the host are learnt once, before the worker
 * is confined and while /sys is still in sight.
 */
#include "task.h"

#include "cni/cni.h"

#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/prctl.h>
#include <sys/vfs.h>

#define CGROUP_ROOT "/sys/fs/cgroup"

static bool is_cgroup2(const char *path) {
	struct statfs f;
	return statfs(path, &f) == 0 && f.f_type == CGROUP2_SUPER_MAGIC;
}

static bool is_cgroup1(const char *path) {
	struct statfs f;
	return statfs(path, &f) == 0 && f.f_type == CGROUP_SUPER_MAGIC;
}

static const char *cgroup_version(void) {
	if (is_cgroup2(CGROUP_ROOT))
		return "v2";
	if (!is_cgroup1(CGROUP_ROOT "/memory") && !is_cgroup1(CGROUP_ROOT "/cpu") && !is_cgroup1(CGROUP_ROOT "/pids"))
		return "";
	return is_cgroup2(CGROUP_ROOT "/unified") ? "hybrid" : "v1";
}

void host_learn(struct task_host *ret_host) {
	*ret_host = (struct task_host){ .cgroup_version = cgroup_version() };
	for (unsigned c = 0; c <= CAP_LAST_CAP; c++)
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1)
			ret_host->capabilities |= UINT64_C(1) << c;
}

static const struct {
	unsigned capability;
	const char *sentence;
} lacks[] = {
	{ .capability = CAP_SYS_RESOURCE,
	  .sentence = "the daemon lacks CAP_SYS_RESOURCE: containers get no lower oom score and no higher limits than "
		      "it has itself" },
	{ .capability = CAP_SYS_ADMIN, .sentence = "the daemon lacks CAP_SYS_ADMIN: no pod can be started" },
	{ .capability = CAP_NET_ADMIN,
	  .sentence = "the daemon lacks CAP_NET_ADMIN: no pod can have a network of its own" },
	{ .capability = CAP_MKNOD, .sentence = "the daemon lacks CAP_MKNOD: containers get no devices" },
};

struct handler_infos {
	Bulkhead__RuntimeHandlerInfo info[BOOT_RUNTIMES_MAX], *list[BOOT_RUNTIMES_MAX];
};

static void handlers_fill(struct task_worker *w, struct handler_infos *h, Bulkhead__RuntimeInfoReply *m) {
	m->handlers = h->list;
	for (size_t i = 0; i < w->n_handlers; i++) {
		struct task_handler *t = &w->handlers[i];
		Bulkhead__RuntimeHandlerInfo *info = &h->info[m->n_handlers];
		if (!t->known)
			continue;
		bulkhead__runtime_handler_info__init(info);
		info->name = t->name;
		info->recursive_read_only_mounts = t->recursive_read_only;
		info->user_namespaces = t->user_namespaces;
		h->list[m->n_handlers++] = info;
	}
}

void on_runtime_info(struct task_worker *w, struct msg_request *r, const Bulkhead__Empty *request) {
	char *warnings[ARRAY_SIZE(lacks) + 1];
	struct handler_infos handlers = { 0 };
	Bulkhead__RuntimeInfoReply m = BULKHEAD__RUNTIME_INFO_REPLY__INIT;
	m.network_ready = cni_ready(w->cni);
	m.network_reason = (char *)cni_reason(w->cni);
	m.network_message = (char *)cni_message(w->cni);
	m.cni_config = (char *)cni_name(w->cni);
	bool systemd = w->worker && w->worker->config.cgroup_driver == BOOT_SYSTEMD;
	m.cgroup_driver = (char *)(systemd ? "systemd" : "cgroupfs");
	m.cgroup_version = (char *)w->host.cgroup_version;
	handlers_fill(w, &handlers, &m);
	m.warnings = warnings;
	for (size_t i = 0; i < ARRAY_SIZE(lacks); i++)
		if (!(w->host.capabilities & UINT64_C(1) << lacks[i].capability))
			warnings[m.n_warnings++] = (char *)lacks[i].sentence;
	if (!*w->host.cgroup_version)
		warnings[m.n_warnings++] = (char *)"no cgroups are mounted at " CGROUP_ROOT
						   ": resources are neither limited nor counted";
	runtime_info_reply(r, &m, NULL, 0);
}
