#include "workers/skeleton/control.h"

#include "base/fd.h"
#include "base/log.h"
#include "boot/block.h"
#include "boot/control.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

static struct worker_link_slot *slot_of(struct worker *w, const struct control *c) {
	if (c->peer >= ROLE_COUNT || c->instance >= WORKER_INSTANCES_MAX)
		return NULL;
	for (const enum role *peer = w->private->class->peers; peer && *peer != ROLE_SUPERVISOR; peer++)
		if (*peer == c->peer)
			return &w->private->links[c->peer][c->instance];
	return NULL;
}

void control_tell(struct worker *w, const struct control *c) {
	int r = control_send(w->private->control, c, NULL, 0);
	if (r < 0) {
		log_event(LOG_ERROR, "the supervisor can't be told", "error", strerror(-r), NULL);
		worker_exit(w, 1);
	}
}

/* --- one function per type; fds not taken are closed by the caller --- */

static void on_link(struct worker *w, const struct control *c, int *fds) {
	const struct worker_class *class = w->private->class;
	struct worker_link_slot *slot = slot_of(w, c);
	if (!slot)
		return;
	struct link *link = worker_link(w, (enum role)c->peer, c->instance);
	/* A second one without CONTROL_UNLINK in between: the peer was replaced. */
	if (slot->pid != 0 && class->link_down)
		class->link_down(w, (enum role)c->peer, c->instance);
	struct link_ends ends = {
		.rx_ring = take_fd(&fds[0]),
		.tx_ring = take_fd(&fds[1]),
		.rx_event = take_fd(&fds[2]),
		.tx_event = take_fd(&fds[3]),
		.side = take_fd(&fds[4]),
	};
	int r = link_attach_ring(link, &ends);
	slot->pid = r < 0 ? 0 : (pid_t)c->arg;
	if (r < 0)
		log_event(LOG_ERROR, "can't attach a link", "peer", role_name((enum role)c->peer), "error",
			  strerror(-r), NULL);
	else if (class->link_up)
		class->link_up(w, (enum role)c->peer, c->instance);
}

static void on_unlink(struct worker *w, const struct control *c, int *fds) {
	struct worker_link_slot *slot = slot_of(w, c);
	if (!slot || slot->pid == 0)
		return;
	slot->pid = 0;
	link_detach(slot->link);
	if (w->private->class->link_down)
		w->private->class->link_down(w, (enum role)c->peer, c->instance);
}

static void on_listener(struct worker *w, const struct control *c, int *fds) {
	if (w->private->class->listener)
		w->private->class->listener(w, c->arg, take_fd(&fds[0]));
}

static void on_zygote(struct worker *w, const struct control *c, int *fds) {
	if (w->private->class->zygote)
		w->private->class->zygote(w, take_fd(&fds[0]));
}

static void on_reload(struct worker *w, const struct control *c, int *fds) {
	const struct boot_block *block;
	int r = boot_block_map(fds[0], &block);
	if (r < 0) {
		log_event(LOG_ERROR, "can't read the new configuration", "error", strerror(-r), NULL);
		return;
	}
	w->config = block->config;
	boot_block_unmap(block);
	log_set_level((enum log_level)w->config.log_level);
	if (w->private->class->reload)
		w->private->class->reload(w);
}

static void on_stop(struct worker *w, const struct control *c, int *fds) {
	if (w->private->class->stop)
		w->private->class->stop(w);
	else
		worker_exit(w, 0);
}

static void on_ping(struct worker *w, const struct control *c, int *fds) {
	control_tell(w, &(struct control){ .type = CONTROL_PONG, .arg = c->arg });
}

static const struct {
	void (*handle)(struct worker *w, const struct control *c, int *fds);
	size_t n_fds;
} handlers[] = {
	[CONTROL_LINK] = { on_link, 5 },	 [CONTROL_UNLINK] = { on_unlink, 0 },
	[CONTROL_LISTENER] = { on_listener, 1 }, [CONTROL_ZYGOTE] = { on_zygote, 1 },
	[CONTROL_RELOAD] = { on_reload, 1 },	 [CONTROL_STOP] = { on_stop, 0 },
	[CONTROL_PING] = { on_ping, 0 },
};

/* Without a supervisor nobody would replace us when we die, and a new one
 * would start workers of its own: we go. */
static void control_arrived(void *ctx, uint32_t events) {
	struct worker *w = ctx;
	for (;;) {
		struct control c;
		int fds[CONTROL_FDS_MAX];
		size_t n_fds;
		int r = control_recv(w->private->control, &c, fds, &n_fds);
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			log_event(LOG_WARN, "the supervisor is gone", "error", r < 0 ? strerror(-r) : "closed", NULL);
			loop_source_free_p(&w->private->source);
			worker_exit(w, 1);
			return;
		}
		if (c.type < ARRAY_SIZE(handlers) && handlers[c.type].handle && handlers[c.type].n_fds == n_fds)
			handlers[c.type].handle(w, &c, fds);
		else
			log_text(LOG_WARN, "control message %u with %zu descriptors is unknown", c.type, n_fds);
		control_fds_close(fds);
	}
}

int control_start(struct worker *w, int fd) {
	w->private->control = fd;
	return loop_poll(w->loop, fd, POLLIN, control_arrived, w, &w->private->source);
}
