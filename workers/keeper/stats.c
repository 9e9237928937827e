/*
 * keeper_stats: figures of the pod's containers, and if asked for of the pod's
 * own group and of its network devices.
 *
 * The detail that metrics show costs a look at each process: how many of them
 * are looked at, and how many of their descriptors, is bounded.
 */
#include "workers/keeper/container.h"

#include "base/fd.h"
#include "workers/keeper/cgroup_update.h"
#include "workers/keeper/proc.h"
#include "workers/keeper/vm/vm.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define PROCESSES_MAX 4096
#define DESCRIPTORS_MAX 65536
#define INTERFACES_MAX 64

/* --- processes -------------------------------------------------------------- */

struct census {
	uint64_t processes, threads, descriptors, sockets;
};

/* A descriptor's link says "socket:[inode]". */
static void count_descriptors(struct census *s, pid_t pid) {
	char path[64], target[16];
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	if (!d)
		return; /* gone */
	for (struct dirent *e; s->descriptors < DESCRIPTORS_MAX && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		s->descriptors++;
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target));
		s->sockets += n >= 7 && memcmp(target, "socket:", 7) == 0;
	}
	closedir(d);
}

static void count_process(void *ctx, pid_t pid) {
	struct census *s = ctx;
	uint64_t threads;
	s->processes++;
	if (proc_stat(pid, PROC_STAT_THREADS, &threads) == 0)
		s->threads += threads;
	count_descriptors(s, pid);
}

static void detail_processes(const struct cgroup *c, pid_t first, Bulkhead__TaskDetail *d) {
	struct census s = { 0 };
	struct rlimit files;
	cgroup_each_process(c, PROCESSES_MAX, count_process, &s);
	d->processes = s.processes;
	d->threads = s.threads;
	d->file_descriptors = s.descriptors;
	d->sockets = s.sockets;
	if (first > 0 && prlimit(first, RLIMIT_NOFILE, NULL, &files) == 0)
		d->files_soft_limit = files.rlim_cur;
}

/* --- one group -------------------------------------------------------------- */

/* In the arena; NULL when out of memory. */
static Bulkhead__TaskStats *stats_make(struct arena *a, const struct cgroup *c, const char *id, pid_t first,
				       const Bulkhead__TaskStatsRequest *q) {
	Bulkhead__TaskStats *s = arena_alloc(a, sizeof(*s));
	if (!s)
		return NULL;
	*s = (Bulkhead__TaskStats)BULKHEAD__TASK_STATS__INIT;
	s->container_id = (char *)(uintptr_t)id;
	cgroup_stats(c, s);
	cgroup_pressure(a, c, s);
	if (q->figures)
		cgroup_figures(a, c, s);
	if (!q->detail && !q->figures)
		return s;
	s->detail = arena_alloc(a, sizeof(*s->detail));
	if (!s->detail)
		return NULL;
	*s->detail = (Bulkhead__TaskDetail)BULKHEAD__TASK_DETAIL__INIT;
	s->detail->cgroup_path = (char *)(uintptr_t)c->path;
	cgroup_detail(a, c, s->detail);
	if (q->detail)
		detail_processes(c, first, s->detail);
	return s;
}

/* --- network devices -------------------------------------------------------- */

/* "  eth0: <bytes> <packets> <errors> <dropped> <4 more> <bytes> ..." */
static bool interface_parse(struct arena *a, char *line, Bulkhead__InterfaceUsage *ret) {
	char *colon = strchr(line, ':');
	if (!colon)
		return false;
	*colon = '\0';
	uint64_t skip[4];
	*ret = (Bulkhead__InterfaceUsage)BULKHEAD__INTERFACE_USAGE__INIT;
	ret->name = arena_strdup(a, line + strspn(line, " "));
	return ret->name &&
	       sscanf(colon + 1,
		      "%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
		      " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
		      &ret->rx_bytes, &ret->rx_packets, &ret->rx_errors, &ret->rx_dropped, &skip[0], &skip[1], &skip[2],
		      &skip[3], &ret->tx_bytes, &ret->tx_packets, &ret->tx_errors, &ret->tx_dropped) == 12;
}

/* This process is in the pod's network namespace. */
static void interfaces(const struct keeper *k, struct arena *a, Bulkhead__TaskStatsReply *reply) {
	CLEANUP_FREE char *text = NULL;
	if (k->pod.network == BULKHEAD__NAMESPACE_MODE__NODE || !k->pod.inside)
		return;
	CLEANUP_FD int fd = open("/proc/self/net/dev", O_RDONLY | O_CLOEXEC);
	reply->interfaces = arena_alloc(a, INTERFACES_MAX * sizeof(*reply->interfaces));
	if (fd < 0 || !reply->interfaces || fd_read_all(fd, 256 * 1024, &text, NULL) < 0)
		return;
	char *save = NULL;
	for (char *line = strtok_r(text, "\n", &save); line && reply->n_interfaces < INTERFACES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		Bulkhead__InterfaceUsage *i = arena_alloc(a, sizeof(*i));
		if (i && interface_parse(a, line, i))
			reply->interfaces[reply->n_interfaces++] = i;
	}
}

/* --- the request ------------------------------------------------------------ */

static bool wanted(const Bulkhead__TaskStatsRequest *m, const struct container *c) {
	if (c->state == CONTAINER_CREATING || c->state == CONTAINER_EXITED)
		return false;
	for (size_t i = 0; i < m->n_container_ids; i++)
		if (strcmp(m->container_ids[i], c->id) == 0)
			return true;
	return m->n_container_ids == 0;
}

static bool containers(struct keeper *k, struct arena *a, const Bulkhead__TaskStatsRequest *m,
		       Bulkhead__TaskStatsReply *reply) {
	size_t n = 0;
	list_for_each (node, &k->containers)
		n++;
	reply->stats = arena_alloc(a, (n + 1) * sizeof(*reply->stats));
	list_for_each (node, &k->containers) {
		struct container *c = list_entry(node, struct container, node);
		if (!reply->stats)
			return false;
		if (!wanted(m, c))
			continue;
		Bulkhead__TaskStats *s = k->pod.vm ? vm_stats(c, a) : stats_make(a, &c->cgroup, c->id, c->pid, m);
		if (!s)
			return false;
		reply->stats[reply->n_stats++] = s;
	}
	return true;
}

void on_keeper_stats(struct keeper *k, struct msg_request *r, const Bulkhead__TaskStatsRequest *m) {
	Bulkhead__TaskStatsReply reply = BULKHEAD__TASK_STATS_REPLY__INIT;
	struct cgroup group;
	struct arena a;
	arena_init(&a, 0);
	bool ok = containers(k, &a, m, &reply);
	if (ok && m->pod && k->pod.up) {
		cgroup_adopt(k->config.cgroups, k->pod.cgroup_path, &group);
		reply.pod = stats_make(&a, &group, "", k->pod.init_pid, m);
		if (reply.pod && k->pod.vm)
			reply.pod->unified = true; /* as its containers' */
		interfaces(k, &a, &reply);
	}
	if (ok)
		keeper_stats_reply(r, &reply, NULL, 0);
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "out of memory for the pod's statistics");
	arena_deinit(&a);
}
