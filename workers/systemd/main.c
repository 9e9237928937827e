/*
 * The systemd worker's life. What its row of the privilege table must grant, and
 * no more:
 *
 *   uid           root's, without capabilities: systemd takes orders from root
 *                 alone
 *   files         /run/systemd (read), for the socket in it
 *   io_uring      the loop's own
 *   system calls  beside what every worker has: socket and connect for AF_UNIX
 */
#include "systemd.h"

#include "base/log.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

void units_tell(struct units *u) {
	Bulkhead__UnitsState m = BULKHEAD__UNITS_STATE__INIT;
	if (!link_attached(u->metadata))
		return;
	m.ready = u->ready;
	m.message = u->ready ? (char *)"" : u->reason;
	units_state_send(u->metadata, NULL, &m, NULL, 0, NULL, NULL);
}

#define TO_SYSTEMD(name) HANDLER_DEFINE(struct units, name)
#include "msg/receivers.def"

static const struct link_handler handlers[] = {
#define TO_SYSTEMD(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};

static int systemd_prepare(struct worker *w) {
	struct statfs f;
	struct units *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	w->state = u;
	u->loop = w->loop;
	list_init(&u->calls);
	u->v2 = statfs("/sys/fs/cgroup", &f) == 0 && f.f_type == CGROUP2_SUPER_MAGIC;
	return 0;
}

static int systemd_serve(struct worker *w) {
	struct units *u = w->state;
	u->metadata = worker_link(w, ROLE_METADATA, 0);
	bus_begin(u);
	return 0;
}

static void systemd_up(struct worker *w, enum role peer, unsigned instance) {
	struct units *u = w->state;
	/* Before the first answer there is nothing to tell. */
	if (u->ready || u->reason[0])
		units_tell(u);
}

int main(int argc, char **argv) {
	static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };
	static const struct worker_class class = {
		.role = ROLE_SYSTEMD,
		.peers = peers,
		.handlers = handlers,
		.prepare = systemd_prepare,
		.serve = systemd_serve,
		.link_up = systemd_up,
	};
	return worker_main(&class, argc, argv);
}
