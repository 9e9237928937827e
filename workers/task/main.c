/*
 * The task worker: pods and processes at run time, as far as that takes no
 * privilege. It knows which keeper holds which pod, tells keepers what to do,
 * turns CNI configuration into network plans and seccomp profiles into
 * programs, and keeps what a killed keeper's successor needs.
 *
 * What its row of the privilege table must grant, and no more:
 *   uid           its own: keepers run as root, but their sockets lie in
 *                 folders of this uid and are given to it. DAC_READ_SEARCH
 *                 alone, for configuration that only root may read; everything else that root owns is out of sight
 *   files         <run_root>/pods (read and write; this uid's, made in
 *                 prepare), the CNI configuration and plug-in folders
 *                 (read)
 *   io_uring      the loop's own: poll_add, poll_remove, async_cancel,
 *                 timeout, timeout_remove
 *   system calls  beside what every worker has: socketpair, socket and connect
 *                 for AF_UNIX SEQPACKET, sendmsg, recvmsg, openat, getdents64,
 *                 mkdirat, unlinkat, faccessat2, newfstatat, fchdir, prctl,
 *                 uname
 *   descriptors   about 3 and 6 per container beside 2 per pod
 */
#include "ahead.h"

#include "base/fd.h"
#include "base/log.h"
#include "cni/cni.h"
#include "seccomp/seccomp.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Where the kubelet's "localhost/" profiles are; keepers read them for us. */
#define LOCALHOST_PROFILES "/var/lib/kubelet/seccomp"

static int make_pods_folder(struct task_worker *w, uid_t uid, gid_t gid) {
	if (mkdir(w->pods_path, 0700) < 0 && errno != EEXIST)
		return -errno;
	return chown(w->pods_path, uid, gid) < 0 ? -errno : 0;
}

static int task_prepare(struct worker *worker) {
	struct task_worker *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	worker->state = w;
	w->worker = worker;
	w->loop = worker->loop;
	w->pods = w->ahead.fd = -1;
	map_init(&w->sandboxes);
	list_init(&w->dead);
	host_learn(&w->host);
	if (asprintf(&w->pods_path, "%s/pods", worker->config.run_root) < 0)
		return -ENOMEM;
	int r = make_pods_folder(w, worker->boot->privileges.uid, worker->boot->privileges.gid);
	if (r < 0)
		log_event(LOG_ERROR, "can't make the pods' folder", "folder", w->pods_path, "why", strerror(-r), NULL);
	return r;
}

/* The zygote is gone: until its successor comes there is nothing to do but to
 * start no pod with a keeper of its. */
static void zygote_down(void *worker, struct link *l, bool violation, const char *text) {
	ahead_drop(worker);
	log_event(violation ? LOG_ERROR : LOG_WARN, "the keepers' zygote is gone", "why", text, NULL);
}

static void scan_found(struct task_worker *w, const char *id) {
	struct sandbox *s;
	if (sandbox_new(w, id, SANDBOX_ORPHANED, &s) < 0)
		log_event(LOG_ERROR, "out of memory: a pod isn't recovered", "pod", id, NULL);
}

static int load_parts(struct task_worker *w, const struct boot_config *config) {
	struct cni_options cni = {
		.conf_dir = config->cni_conf_dir,
		.bin_dirs = config->cni_bin_dirs,
		.cache_dir = config->cni_cache_dir,
	};
	struct link_options zygote = {
		.loop = w->loop,
		.self = ROLE_TASK,
		.peer = ROLE_KEEPER,
		.worker = w,
		.on_down = zygote_down,
	};
	int r = link_new(&zygote, &w->zygote);
	if (r >= 0)
		r = cni_new(&cni, &w->cni);
	if (r >= 0)
		r = seccomp_cache_new(LOCALHOST_PROFILES, &w->seccomp);
	return r;
}

/* After the worker has said that it is ready. */
static void warm(void *ctx) {
	struct task_worker *w = ctx;
	loop_source_free_p(&w->warming);
	seccomp_cache_warm(w->seccomp);
}

static int task_serve(struct worker *worker) {
	struct task_worker *w = worker->state;
	w->metadata = worker_link(worker, ROLE_METADATA, 0);
	int r = load_parts(w, &worker->config);
	if (r < 0)
		return r;
	w->pods = open(w->pods_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->pods < 0 || fchdir(w->pods) < 0)
		return -errno;
	r = rundir_scan(w, scan_found);
	if (r < 0)
		return r;
	keeper_revive_all(w);
	w->ahead.enabled = true;
	return loop_defer(w->loop, warm, w, &w->warming);
}

static void task_zygote(struct worker *worker, int fd) {
	struct task_worker *w = worker->state;
	/* A keeper of the zygote's predecessor: the new one wouldn't hear of the
	 * end of what it leaves, should it be killed. */
	ahead_drop(w);
	int r = link_attach_socket(w->zygote, fd);
	if (r < 0)
		log_event(LOG_ERROR, "can't talk to the keepers' zygote", "why", strerror(-r), NULL);
	if (r < 0)
		return;
	keeper_revive_all(w);
	features_ask_all(w);
}

static void task_reload(struct worker *worker) {
	struct task_worker *w = worker->state;
	struct cni_options options = {
		.conf_dir = worker->config.cni_conf_dir,
		.bin_dirs = worker->config.cni_bin_dirs,
		.cache_dir = worker->config.cni_cache_dir,
	};
	struct cni *fresh;
	features_ask_all(w);
	ahead_drop(w);
	if (cni_new(&options, &fresh) < 0)
		return;
	cni_free(w->cni);
	w->cni = fresh;
}

/* Keepers and their containers stay; open calls fail with UNAVAILABLE. */
static void task_stop(struct worker *worker) {
	worker_exit(worker, 0);
}

int main(int argc, char **argv) {
	static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };
	static const struct worker_class class = {
		.role = ROLE_TASK,
		.loop = { .entries = 64 },
		.peers = peers,
		.handlers = task_handlers,
		.prepare = task_prepare,
		.serve = task_serve,
		.zygote = task_zygote,
		.reload = task_reload,
		.stop = task_stop,
	};
	return worker_main(&class, argc, argv);
}
