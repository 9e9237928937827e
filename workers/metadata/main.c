/*
 * The metadata worker's life. What its row of the privilege table must grant,
 * and no more:
 *
 *   uid           its own, no capabilities
 *   files         <state_root>/metadata (read and write)
 *   io_uring      the loop's own, and fsync
 *   system calls  beside what every worker has: openat, pread64, pwrite64,
 *                 ftruncate, fcntl (locks), mmap and msync of files, fdatasync,
 *                 rename, unlink, getdents64, pipe2, uname
 *
 * The kernel's boot id and the pid namespace are read in prepare, before /proc is out of sight.
 */
#include "workers/metadata/metadata.h"

#include "base/log.h"
#include "workers/skeleton/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void read_boot_id(char ret_id[BOOT_ID_SIZE]) {
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_id, BOOT_ID_SIZE - 1);
	ret_id[n < 0 ? 0 : n] = '\0';
	ret_id[strcspn(ret_id, "\n")] = '\0';
	if (fd >= 0)
		close(fd);
}

static int metadata_prepare(struct worker *w) {
	struct metadata *m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	w->state = m;
	read_boot_id(m->boot_id);
	server_prepare(&m->server);
	return 0;
}

static int metadata_serve(struct worker *w) {
	struct metadata *m = w->state;
	struct fault fault;
	m->peers[ROLE_METADATA][0] = (struct peer){ .pid = getpid(), .starts = w->boot->restarts + 1 };
	m->image = worker_link(w, ROLE_IMAGE, 0);
	m->snapshot = worker_link(w, ROLE_SNAPSHOT, 0);
	m->task = worker_link(w, ROLE_TASK, 0);
	m->stream = worker_link(w, ROLE_STREAM, 0);
	m->systemd = worker_link(w, ROLE_SYSTEMD, 0);
	m->guest = worker_link(w, ROLE_GUEST, 0);
	int r = metadata_init(m, w->loop, &w->config, &fault);
	m->finish = worker_finish;
	m->worker = w;
	if (r < 0)
		log_event(LOG_ERROR, "metadata worker can't serve", "error", fault.text, NULL);
	return r;
}

static void metadata_up(struct worker *w, enum role peer, unsigned instance) {
	struct metadata *m = w->state;
	m->peers[peer][instance].pid = worker_peer_pid(w, peer, instance);
	m->peers[peer][instance].starts++;
	metadata_link_up(m, peer);
}

static void metadata_down(struct worker *w, enum role peer, unsigned instance) {
	if (peer == ROLE_API)
		leases_end(w->state, worker_link(w, peer, instance));
	metadata_link_down(w->state, peer);
}

/* Nothing is lost by an end at any moment; collected changes are written. */
static void metadata_stop(struct worker *w) {
	struct metadata *m = w->state;
	store_close(take_ptr(m->store));
	worker_exit(w, 0);
}

static const enum role peers[] = { ROLE_API,	ROLE_IMAGE,   ROLE_SNAPSHOT, ROLE_TASK,
				   ROLE_STREAM, ROLE_SYSTEMD, ROLE_GUEST,    ROLE_SUPERVISOR };

static const struct worker_class class = {
	.role = ROLE_METADATA,
	.peers = peers,
	.handlers = metadata_handlers,
	.prepare = metadata_prepare,
	.serve = metadata_serve,
	.link_up = metadata_up,
	.link_down = metadata_down,
	.stop = metadata_stop,
};

int main(int argc, char **argv) {
	return worker_main(&class, argc, argv);
}
