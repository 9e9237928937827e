/*
 * The one place that notices kills for want of memory: the reason of a container's
 * end, containerd's /tasks/oom and an agent's GetOOMEvent come from here.
 *
 * The kernel's count is looked at when it wakes us, and once more a moment later:
 * v1 wakes before it kills, so there it takes a few looks. In between nothing is
 * polled, which bounds what a container that is always short of memory costs us.
 * Each look that finds more than the last one is one time; the number is saved
 * before it is told, so a successor tells the same.
 */
#include "workers/keeper/container.h"
#include "workers/keeper/vm/vm.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define PAUSE (20 * NS_PER_MS)
#define LOOKS_MAX 6 /* the pause doubles */

static void tell(const struct container *c) {
	Bulkhead__TaskOom m = BULKHEAD__TASK_OOM__INIT;
	m.sandbox_id = c->keeper->id;
	m.container_id = c->id;
	m.ooms = c->oom.times;
	if (link_attached(c->keeper->link))
		container_oom_send(c->keeper->link, NULL, &m, NULL, 0, NULL, NULL);
}

/* True when there are more. */
static bool count(struct container *c) {
	uint64_t kills = cgroup_oom_kills(&c->cgroup) + c->oom.guest;
	if (kills <= c->oom.kills)
		return false;
	c->oom.kills = kills;
	c->oom.times++;
	return true;
}

static bool look(struct container *c) {
	if (!count(c))
		return false;
	state_save(c->keeper);
	tell(c);
	return true;
}

static void watch(struct container *c);

static void stop(struct oom_watch *w) {
	loop_source_free_p(&w->source);
	loop_source_free_p(&w->timer);
	fd_replace(&w->fd, -1);
}

static void look_again(void *ctx);

static void look_later(struct container *c) {
	int64_t due = clock_mono() + (PAUSE << c->oom.looks);
	if (loop_timer(c->keeper->loop, due, look_again, c, &c->oom.timer) < 0)
		stop(&c->oom);
}

static void look_again(void *ctx) {
	struct container *c = ctx;
	loop_source_free_p(&c->oom.timer);
	bool v2 = c->oom.events != POLLIN;
	if (look(c) || v2 || ++c->oom.looks == LOOKS_MAX)
		watch(c);
	else
		look_later(c);
}

static void woken(void *ctx, uint32_t events) {
	struct container *c = ctx;
	loop_source_free_p(&c->oom.source);
	c->oom.looks = 0;
	look(c);
	look_later(c);
}

static void watch(struct container *c) {
	struct oom_watch *w = &c->oom;
	cgroup_oom_seen(w->fd);
	if (loop_poll(c->keeper->loop, w->fd, w->events, woken, c, &w->source) < 0)
		stop(w);
	look(c);
}

void oom_watch_begin(struct container *c) {
	int fd = cgroup_oom_open(&c->cgroup, &c->oom.events);
	if (fd < 0 && fd != -ENODEV)
		log_event(LOG_WARN, "kills for want of memory are told with the container's end only", "container",
			  c->id, "why", strerrordesc_np(-fd), NULL);
	if (fd < 0)
		return;
	c->oom.fd = fd;
	watch(c);
}

void oom_watch_look(struct container *c) {
	look(c);
}

void oom_watch_end(struct container *c) {
	stop(&c->oom);
	vm_ooms_take(c->keeper);
	count(c);
}
