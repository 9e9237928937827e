/*
 * archive_write: a checkpoint's archive, by a child. While the container waits
 * at the gate what it has changed is written; the rest when it runs again and
 * criu has ended, since criu's log is part of it.
 *
 * The worker isn't allowed to see the files' folders; it has descriptors.
 */
#include "workers/snapshot/state.h"

#include "base/fd.h"
#include "workers/snapshot/archive_child.h"
#include "workers/snapshot/criu_folder.h"
#include "workers/snapshot/diff.h"
#include "workers/snapshot/file_digest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DIFF_NAME "rootfs-diff.tar"
#define LOG_NAME "container.log"
/* criu's folder has these besides its images. */
static const char *const logs[] = { "dump.log", "stats-dump" };

enum { ARCHIVE, FOLDER, GATE, LOG };

struct writing {
	struct archive_child archive;
	const Bulkhead__ArchiveWriteRequest *m;
	int upper;
};

/* --- in the child --- */

/* As much of the log as there is now. */
static int log_write(struct tar_writer *w, int log) {
	struct stat st;
	if (fstat(log, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	struct tar_member m = tar_member_of(LOG_NAME, &st);
	m.mode = 0600;
	int r = tar_write_header(w, &m);
	return r < 0 ? r : tar_write_file(w, log, m.size);
}

static int rest_write(struct tar_writer *w, const struct writing *x) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < x->m->n_texts; i++) {
		const Bulkhead__ArchiveWriteRequest__Text *t = x->m->texts[i];
		r = tar_write_text(w, t->name, t->content.data, t->content.len);
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(logs); i++) {
		r = criu_file_write(w, x->archive.fds[FOLDER], logs[i], logs[i]);
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0)
		r = log_write(w, x->archive.fds[LOG]);
	if (r == 0)
		r = criu_images_write(w, x->archive.fds[FOLDER], CRIU_IMAGES "/");
	tar_write_end(w);
	if (r == 0 && ftruncate(w->fd, (off_t)w->at) < 0)
		r = -errno;
	return r == 0 && fsync(w->fd) < 0 ? -errno : r;
}

static int writer_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct writing *x = arg;
	struct tar_writer w = { .fd = x->archive.fds[ARCHIVE] };
	uint64_t sum[CHILD_VALUES];
	char digest[DIGEST_SIZE];
	int r = criu_gate_wait(x->archive.fds[GATE], BULKHEAD__GATE_WORD__GATE_DUMPED, fault);
	if (r < 0)
		return r;
	uint64_t opened = tar_open(&w);
	r = diff_write(&w, x->upper, fault);
	if (r < 0)
		return r;
	tar_write_end(&w);
	r = tar_close(&w, opened, DIFF_NAME);
	if (r == 0)
		r = criu_gate_go(x->archive.fds[GATE]);
	if (r < 0)
		return fault_errno(fault, r, "write the archive");
	r = criu_gate_wait(x->archive.fds[GATE], BULKHEAD__GATE_WORD__GATE_ENDED, fault);
	if (r < 0)
		return r;
	r = rest_write(&w, x);
	if (r == 0)
		r = file_digest(w.fd, sum);
	if (r < 0)
		return fault_errno(fault, r, "write the archive");
	file_digest_text(sum, digest);
	archive_child_result(ret_values, digest, w.at);
	return 0;
}

/* --- in the worker --- */

static int writer_start(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ArchiveWriteRequest *m) {
	struct writing *x = arena_zalloc(&r->arena, sizeof(*x));
	const struct snapshot *snapshot = snapshot_find(s, m->key);
	CLEANUP_FD int upper = snapshot ? upper_open(s->rooms.snapshots, snapshot->key) : -ENOENT;
	if (upper < 0 || !x)
		return upper < 0 ? upper : -ENOMEM;
	x->m = m;
	x->upper = upper;
	return archive_child_start(&x->archive, s->loop, r, "archive", upper, writer_run, x);
}

void on_archive_write(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ArchiveWriteRequest *m) {
	struct fault fault;
	if (!s->overlay.usable) {
		msg_failf(r, FAULT_UNIMPLEMENTED, "without overlayfs nobody knows what a container has changed");
		return;
	}
	int e = writer_start(s, r, m);
	if (e < 0) {
		fault_errno(&fault, e, "write the archive of snapshot \"%.80s\"", m->key);
		msg_fail(r, &fault);
	}
}
