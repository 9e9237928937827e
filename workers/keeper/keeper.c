#include "workers/keeper/container.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/checkpoint.h"
#include "workers/keeper/sys.h"
#include "workers/keeper/title.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define SOCKET_NAME "keeper.sock"
#define GRAVE_PAUSE (5 * NS_PER_MS)
#define GRAVE_TRIES 100
#define GRAVE_PAUSE_MAX (500 * NS_PER_MS)
#define QUIT_AFTER (2 * NS_PER_SEC)

/* --- the table of messages --- */

/* With a root of its own; otherwise the same. */
void on_container_create_bare(struct keeper *k, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m) {
	on_container_create(k, r, m);
}

#define TO_KEEPER(name) HANDLER_DEFINE(struct keeper, name)
#include "msg/receivers.def"

static const struct link_handler handlers[] = {
#define TO_KEEPER(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};

/* --- control groups that are still in use --- */

struct grave {
	struct list node;
	struct cgroup group;
	int64_t pause;
};

static void graves_visit(void *ctx);

static void graves_later(struct keeper *k, int64_t pause) {
	if (!k->grave_timer && loop_timer(k->loop, clock_mono() + pause, graves_visit, k, &k->grave_timer) < 0)
		k->grave_timer = NULL;
}

static void graves_visit(void *ctx) {
	struct keeper *k = ctx;
	int64_t pause = GRAVE_PAUSE_MAX;
	loop_source_free_p(&k->grave_timer);
	list_for_each_safe (n, &k->graves) {
		struct grave *g = list_entry(n, struct grave, node);
		cgroup_kill(&g->group);
		if (cgroup_remove(&g->group) == 0) {
			list_unlink(&g->node);
			free(g);
			continue;
		}
		g->pause = MIN(g->pause * 2, GRAVE_PAUSE_MAX);
		pause = MIN(pause, g->pause);
	}
	if (!list_empty(&k->graves))
		graves_later(k, pause);
	else
		pod_teardown_continue(k);
}

void keeper_bury(struct keeper *k, struct cgroup *c) {
	if (!c->system || !c->made || cgroup_remove(c) == 0)
		return;
	struct grave *g = calloc(1, sizeof(*g));
	cgroup_kill(c);
	if (!g) {
		log_event(LOG_WARN, "out of memory: a cgroup is left behind", "path", c->path, NULL);
		return;
	}
	g->group = *c;
	g->pause = GRAVE_PAUSE;
	c->made = 0;
	list_append(&k->graves, &g->node);
	graves_later(k, GRAVE_PAUSE);
}

int keeper_grave_clear(struct keeper *k, const char *path) {
	struct timespec pause = { .tv_nsec = GRAVE_PAUSE };
	int r = 0;
	list_for_each_safe (n, &k->graves) {
		struct grave *g = list_entry(n, struct grave, node);
		if (strcmp(g->group.path, path) != 0)
			continue;
		for (int i = 0; (r = cgroup_remove(&g->group)) < 0 && i < GRAVE_TRIES; i++) {
			cgroup_kill(&g->group);
			nanosleep(&pause, NULL);
		}
		if (r < 0)
			return r;
		list_unlink(&g->node);
		free(g);
	}
	return 0;
}

bool keeper_graves_empty(const struct keeper *k) {
	return list_empty(&k->graves);
}

/* --- the way to it --- */

static void accepted(void *ctx, int fd) {
	struct keeper *k = ctx;
	struct ucred peer;
	socklen_t size = sizeof(peer);
	if (fd < 0) {
		log_event(LOG_WARN, "a keeper can't be reached any more", "pod", k->id, "why", strerrordesc_np(-fd),
			  NULL);
		return;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0 || (peer.uid != 0 && peer.uid != k->task_uid)) {
		fd_close(fd);
		return;
	}
	/* The new connection is the task worker's successor, or the same one
	 * that has lost the old connection. */
	int r = link_attach_socket(k->link, fd);
	if (r < 0)
		log_event(LOG_WARN, "a connection can't be taken up", "pod", k->id, "why", strerrordesc_np(-r), NULL);
}

int keeper_run_dir(struct keeper *k, const char *path, struct fault *fault) {
	char *copy = strdup(path);
	if (!copy)
		return fault_errno(fault, ENOMEM, "take \"%s\" for the run folder", path);
	free(k->run_dir);
	k->run_dir = copy;
	return 0;
}

int keeper_listen(struct keeper *k, struct fault *fault) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	CLEANUP_FD int folder = open(k->run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->listener >= 0)
		return 0;
	if (folder < 0 || fd < 0)
		return fault_errno(fault, errno, "listen in \"%s\"", k->run_dir);
	/* The folder's own path may be too long for an address. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, folder);
	unlinkat(folder, SOCKET_NAME, 0);
	mode_t old = umask(0177);
	int r = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(old);
	if (r == 0 && fchownat(folder, SOCKET_NAME, k->task_uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0)
		r = -errno;
	if (r == 0 && listen(fd, 4) < 0)
		r = -errno;
	if (r == 0)
		r = loop_accept(k->loop, fd, accepted, k, &k->listening);
	if (r < 0)
		return fault_errno(fault, r, "listen in \"%s\"", k->run_dir);
	k->listener = take_fd(&fd);
	return 0;
}

void keeper_unlisten(struct keeper *k) {
	char path[4096];
	loop_source_free_p(&k->listening);
	fd_replace(&k->listener, -1);
	snprintf(path, sizeof(path), "%s/" SOCKET_NAME, k->run_dir);
	unlink(path);
}

/* --- birth and end --- */

static void quit_now(void *ctx) {
	struct keeper *k = ctx;
	loop_stop(k->loop, 0);
}

void keeper_quit(struct keeper *k) {
	k->quitting = true;
	/* The task worker closes the link when it has read the answer. */
	if (!link_attached(k->link) || loop_timer(k->loop, clock_mono() + QUIT_AFTER, quit_now, k, &k->quit_timer) < 0)
		quit_now(k);
}

static void link_down(void *worker, struct link *l, bool violation, const char *text) {
	struct keeper *k = worker;
	if (violation)
		log_event(LOG_ERROR, "the task worker broke the protocol", "pod", k->id, "why", text, NULL);
	/* With nobody who could ever ask for it again it has no purpose. */
	if (k->quitting || k->listener < 0)
		quit_now(k);
}

static int keeper_init(struct keeper *k, const struct keeper_config *config, const char *id, const char *run_dir,
		       int link_fd) {
	static const struct loop_options loop = { .entries = 8 };
	struct ucred peer;
	socklen_t size = sizeof(peer);
	*k = (struct keeper){
		.config = *config,
		.listener = -1,
		.vault = { -1, -1 },
		.children = -1,
		.state = { -1, -1 },
		.pod = { .host = NETWORK_HOST_NONE, .userns = USERNS_NONE, .shm = -1, .init = -1 },
	};
	list_init(&k->containers);
	list_init(&k->graves);
	list_init(&k->errands);
	list_init(&k->endings);
	k->id = strdup(id);
	k->run_dir = strdup(run_dir);
	if (!k->id || !k->run_dir)
		return -ENOMEM;
	if (getsockopt(link_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
		k->task_uid = peer.uid;
	int r = loop_new(&loop, &k->loop);
	if (r == 0)
		r = loop_enable(k->loop, NULL, 0);
	struct link_options options = {
		.loop = k->loop,
		.self = ROLE_KEEPER,
		.peer = ROLE_TASK,
		.handlers = handlers,
		.worker = k,
		.on_down = link_down,
	};
	if (r == 0)
		r = link_new(&options, &k->link);
	if (r == 0)
		r = vault_init(k);
	if (r == 0)
		r = link_attach_socket(k->link, link_fd);
	return r;
}

/* Whatever the zygote's starter ignored: containers inherit it. */
static void signals_init(void) {
	sigset_t none;
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, sig == SIGPIPE ? SIG_IGN : SIG_DFL); /* fails for SIGKILL and its kind, rightly */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void keeper_main(const struct keeper_config *config, const char *id, const char *run_dir, int link_fd) {
	static struct keeper k;
	struct fault fault;
	/* Small and one of many: memory goes back at once. */
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
	mallopt(M_TRIM_THRESHOLD, 64 * 1024);
	mallopt(M_TOP_PAD, 4096);
	title_set(id[0] ? "bulkhead-keeper" : "bulkhead-ahead", id);
	signals_init();
	int r = keeper_init(&k, config, id, run_dir, link_fd);
	if (r == 0 && !id[0])
		r = pod_ahead(&k.pod, &fault);
	if (r == 0)
		r = loop_run(k.loop);
	if (r < 0)
		log_event(LOG_ERROR, "keeper ends", "pod", id, "why", strerrordesc_np(-r), NULL);
	_exit(r < 0 ? 1 : 0);
}
