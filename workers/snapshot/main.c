/*
 * The snapshot worker: root filesystems. Layers are unpacked from pipes by
 * jailed children (layer_unpack.c, unpack/, tar/, decode/), made permanent
 * (layer_commit.c), stacked with a container's writable part and given away as
 * detached mounts (snapshot_prepare.c, snapshot_mount.c, overlay.c). The worker
 * itself reads no foreign bytes; what takes long runs in children (child.c), so
 * that its loop never waits.
 *
 * What it needs from its row of the privilege table:
 *   capabilities  SYS_ADMIN (mounts, trusted.*), SYS_CHROOT, CHOWN, DAC_OVERRIDE,
 *                 DAC_READ_SEARCH, FOWNER, FSETID, MKNOD, SETFCAP, SETUID and
 *                 SETGID (files of root's while not being root),
 *                 LINUX_IMMUTABLE (removing what containers made immutable);
 *                 overlayfs acts with them on behalf of containers later
 *   namespaces    mount, ipc, uts, network: its children inherit the empty one
 *   sees          <state root>/layers and <state root>/snapshots, to write
 *   calls         base, memory, sockets, files, owners, spawn, mounts; beyond the
 *                 usual: openat2 renameat2 syncfs setfsuid setfsgid fork
 *                 pidfd_open pidfd_send_signal waitid unshare pivot_root fsopen
 *                 fsconfig fsmount open_tree move_mount mount_setattr mount
 *                 umount2 capget capset seccomp prctl setpriority setrlimit
 *                 ioctl (FICLONE, FS_IOC_*FLAGS)
 *   io_uring      poll_add timeout async_cancel (and what the links use)
 */
#include "base/fd.h"
#include "base/log.h"
#include "workers/skeleton/worker.h"
#include "workers/snapshot/idmap.h"
#include "workers/snapshot/state.h"

static struct snapshot_worker snapshot;

/* Confined, it couldn't make a user namespace; pods' come from their keepers. */
static int trial = -1;

static int prepare(struct worker *w) {
	w->state = &snapshot;
	trial = idmap_namespace_new();
	return 0;
}

static int serve(struct worker *w) {
	struct fault fault;
	int r = snapshot_worker_init(&snapshot, w->loop, w->config.state_root, &fault);
	if (r < 0) {
		log_event(LOG_ERROR, "no place for root filesystems", "error", fault.text, NULL);
		return r;
	}
	snapshot.mapped = idmap_probe(&snapshot.overlay, trial);
	fd_replace(&trial, -1);
	worker_link(w, ROLE_METADATA, 0);
	return 0;
}

/* Its open requests have been cancelled by now. */
static void link_down(struct worker *w, enum role peer, unsigned instance) {
	layers_abandon(&snapshot);
}

int main(int argc, char **argv) {
	static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };
	static const struct worker_class class = {
		.role = ROLE_SNAPSHOT,
		.peers = peers,
		.handlers = snapshot_handlers,
		.prepare = prepare,
		.serve = serve,
		.link_down = link_down,
	};
	return worker_main(&class, argc, argv);
}
