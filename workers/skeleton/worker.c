#include "workers/skeleton/worker.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/footprint.h"
#include "base/log.h"
#include "boot/block.h"
#include "workers/skeleton/confine.h"
#include "workers/skeleton/control.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/*
 * jemalloc's configuration. One arena, as there is one thread; no cache per
 * thread, which would hold on to what a burst left; pages go back after a
 * second, by whoever allocates next and not by a thread of its own.
 */
const char *malloc_conf = "narenas:1,tcache:false,background_thread:false,dirty_decay_ms:1000,muzzy_decay_ms:0,"
			  "abort_conf:false";

#ifdef __SANITIZE_ADDRESS__
/* The leak check at exit traces its own process, which the filter forbids. What
 * is freed is held back for a while, but not so much of it that a test of how
 * much memory a worker takes would be about that. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
	return "detect_leaks=0:quarantine_size_mb=4";
}
#endif

/* The one worker that this process is: what link_down gets is its state. */
static struct worker *self;

static void link_ended(void *state, struct link *l, bool violation, const char *text) {
	struct worker *w = self;
	for (unsigned peer = 0; peer < ROLE_COUNT; peer++)
		for (unsigned i = 0; i < WORKER_INSTANCES_MAX; i++) {
			struct worker_link_slot *slot = &w->private->links[peer][i];
			if (slot->link != l || slot->pid == 0)
				continue;
			log_event(violation ? LOG_ERROR : LOG_INFO, "link down", "peer", role_name((enum role)peer),
				  "why", text, NULL);
			if (violation) {
				struct control c = {
					.type = CONTROL_VIOLATION,
					.peer = peer,
					.instance = i,
					.arg = (uint32_t)slot->pid,
				};
				snprintf(c.text, sizeof(c.text), "%s", text);
				control_tell(w, &c);
			}
			slot->pid = 0;
			if (w->private->class->link_down)
				w->private->class->link_down(w, (enum role)peer, i);
			return;
		}
}

const struct boot_endpoint *worker_endpoint(const struct worker *w, enum role role, unsigned instance) {
	if (role != ROLE_API || instance >= w->boot->config.n_endpoints)
		return NULL;
	return &w->boot->config.endpoints[instance];
}

/* What of it both ends of a link know, each from its own boot block. */
static const struct boot_endpoint *endpoint_of_link(const struct worker *w, enum role peer, unsigned instance) {
	enum role self_role = w->private->class->role;
	return peer == ROLE_API ? worker_endpoint(w, peer, instance) : worker_endpoint(w, self_role, w->boot->instance);
}

struct link *worker_link(struct worker *w, enum role peer, unsigned instance) {
	struct worker_link_slot *slot = &w->private->links[peer][instance];
	if (slot->link)
		return slot->link;
	const struct boot_endpoint *endpoint = endpoint_of_link(w, peer, instance);
	struct link_options options = {
		.loop = w->loop,
		.self = w->private->class->role,
		.peer = peer,
		.access = endpoint ? (enum link_access)endpoint->access : ACCESS_NONE,
		.endpoint = endpoint ? endpoint->name : NULL,
		.handlers = w->private->class->handlers,
		.worker = w->state,
		.on_down = link_ended,
	};
	int r = link_new(&options, &slot->link);
	if (r < 0) {
		log_event(LOG_ERROR, "can't make a link", "peer", role_name(peer), "error", strerror(-r), NULL);
		exit(1);
	}
	return slot->link;
}

pid_t worker_peer_pid(const struct worker *w, enum role peer, unsigned instance) {
	return w->private->links[peer][instance].pid;
}

void worker_exit(struct worker *w, int status) {
	loop_stop(w->loop, status);
}

void worker_finish(struct worker *w) {
	control_tell(w, &(struct control){ .type = CONTROL_FINISH });
}

/* --- prepare, confine, serve --- */

static int boot(const struct worker_class *class, const struct boot_block **ret_block) {
	const char *name = role_name(class->role);
	int r = fcntl(BOOT_FD_CONTROL, F_GETFD) < 0 ? -errno : boot_block_map(BOOT_FD_BLOCK, ret_block);
	if (r == -EBADMSG) {
		fprintf(stderr, "bulkhead-%s and bulkheadd are not of the same build\n", name);
		return r;
	}
	if (r < 0 || (*ret_block)->role != class->role) {
		fprintf(stderr, "bulkhead-%s is a part of bulkheadd and is started by it alone\n", name);
		return r < 0 ? r : -EINVAL;
	}
	close(BOOT_FD_BLOCK);
	fcntl(BOOT_FD_CONTROL, F_SETFD, FD_CLOEXEC);
	/* The zygote has none. */
	fcntl(BOOT_FD_LOCK, F_SETFD, FD_CLOEXEC);
	return 0;
}

static int confine(struct worker *w) {
	struct fault fault;
	int r = confine_surroundings(&w->boot->privileges, &fault);
	if (r == 0)
		r = confine_calls(&w->boot->privileges, w->loop, &fault);
	if (r < 0)
		log_event(LOG_ERROR, "can't be confined", "error", fault.text, NULL);
	return r;
}

/* Starting up is over, and with it the need of most pages that it touched. */
static void settled(void *ctx) {
	struct worker *w = ctx;
	loop_source_free_p(&w->private->settle);
	footprint_trim();
}

static int phases(struct worker *w) {
	const struct worker_class *class = w->private->class;
	int r = loop_new(&class->loop, &w->loop);
	if (r < 0) {
		log_event(LOG_ERROR, "can't make an io_uring", "error", strerror(-r), NULL);
		return r;
	}
	r = class->prepare ? class->prepare(w) : 0;
	if (r < 0) {
		log_event(LOG_ERROR, "can't prepare", "error", strerror(-r), NULL);
		return r;
	}
	r = confine(w);
	if (r < 0)
		return r;
	r = class->serve ? class->serve(w) : 0;
	if (r == 0)
		r = control_start(w, BOOT_FD_CONTROL);
	if (r < 0) {
		log_event(LOG_ERROR, "can't serve", "error", strerror(-r), NULL);
		return r;
	}
	control_tell(w, &(struct control){ .type = CONTROL_READY });
	r = loop_timer(w->loop, clock_mono() + NS_PER_SEC, settled, w, &w->private->settle);
	if (r == 0)
		r = loop_run(w->loop);
	if (r < 0)
		log_event(LOG_ERROR, "the loop failed", "error", strerror(-r), NULL);
	return r;
}

/* "api/cri[812]" in the log. */
static void name_set(const struct worker *w) {
	static char name[BOOT_ENDPOINT_NAME_MAX + 16];
	const struct boot_endpoint *e = worker_endpoint(w, (enum role)w->boot->role, w->boot->instance);
	if (!e)
		return;
	snprintf(name, sizeof(name), "%s/%s", role_name((enum role)w->boot->role), e->name);
	log_init(name, LOG_INFO);
}

int worker_main(const struct worker_class *class, int argc, char **argv) {
	static struct worker_private private;
	static struct worker worker = { .private = &private };
	log_init(role_name(class->role), LOG_INFO);
	if (boot(class, &worker.boot) < 0)
		return 2;
	worker.config = worker.boot->config;
	name_set(&worker);
	log_set_level((enum log_level)worker.config.log_level);
	signal(SIGPIPE, SIG_IGN);
	/* The C library looks for the time zone once, even for UTC in the log:
	 * now, while it can. */
	tzset();
	private.class = class;
	self = &worker;
	int r = phases(&worker);
	return r < 0 ? 1 : r;
}
