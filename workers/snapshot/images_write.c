/*
 * images_write: a checkpoint for containerd's clients, by a child. The root is
 * theirs to save, so the container goes on at once; when criu has ended its
 * images become an archive in a file without a name, and go into the pipe. So
 * does, into the other pipe, the text that came with the request.
 */
#include "workers/snapshot/archive_child.h"
#include "workers/snapshot/criu_folder.h"
#include "workers/snapshot/encode.h"
#include "workers/snapshot/state.h"

#include "base/fd.h"

#include <fcntl.h>
#include <string.h>

enum { FOLDER, GATE, IMAGES, TEXT };

struct writing {
	struct archive_child archive;
	struct snapshot_worker *worker;
	const Bulkhead__ImagesWriteRequest *m;
};

/* --- in the child --- */

static int images_send(const struct writing *x, struct encode_result *ret_result, struct fault *fault) {
	CLEANUP_FD int file = openat(x->worker->rooms.layers_staging, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct tar_writer w = { .fd = file };
	if (file < 0)
		return fault_errno(fault, errno, "make a file for the archive");
	int r = criu_images_write(&w, x->archive.fds[FOLDER], "");
	tar_write_end(&w);
	if (r < 0)
		return fault_errno(fault, r, "write the archive");
	return encode_file(file, w.at, x->archive.fds[IMAGES], ENCODING_NONE, ret_result, fault);
}

static int writer_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct writing *x = arg;
	struct encode_result result;
	int r = criu_gate_wait(x->archive.fds[GATE], BULKHEAD__GATE_WORD__GATE_DUMPED, fault);
	if (r == 0 && (r = criu_gate_go(x->archive.fds[GATE])) < 0)
		r = fault_errno(fault, r, "let the container go on");
	if (r == 0)
		r = criu_gate_wait(x->archive.fds[GATE], BULKHEAD__GATE_WORD__GATE_ENDED, fault);
	if (r < 0)
		return r;
	/* The descriptors' other users may have liked it otherwise. */
	fcntl(x->archive.fds[IMAGES], F_SETFL, 0);
	fcntl(x->archive.fds[TEXT], F_SETFL, 0);
	r = fd_write_all(x->archive.fds[TEXT], x->m->text.data, x->m->text.len);
	r = r < 0 ? fault_errno(fault, r, "write the text beside the archive") : images_send(x, &result, fault);
	if (r < 0)
		return r;
	archive_child_result(ret_values, result.digest, result.size);
	return 0;
}

/* --- in the worker --- */

static int writer_start(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ImagesWriteRequest *m) {
	struct writing *x = arena_zalloc(&r->arena, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->worker = s;
	x->m = m;
	return archive_child_start(&x->archive, s->loop, r, "images", s->rooms.layers_staging, writer_run, x);
}

void on_images_write(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ImagesWriteRequest *m) {
	struct fault fault;
	int e = writer_start(s, r, m);
	if (e < 0) {
		fault_errno(&fault, e, "write the archive of a checkpoint");
		msg_fail(r, &fault);
	}
}
