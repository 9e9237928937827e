/*
 * images_write: a checkpoint for containerd's clients, by a child. The root is
 * theirs to save, so the container goes on at once; when criu has ended its
 * images become an archive in a file without a name, and go into the pipe. So
 * does, into the other pipe, the text that came with the request.
 */
#include "workers/snapshot/criu_folder.h"
#include "workers/snapshot/encode.h"
#include "workers/snapshot/state.h"

#include "base/fd.h"

#include <fcntl.h>
#include <string.h>

enum { FOLDER, GATE, IMAGES, TEXT, N_FDS };

struct writing {
	struct snapshot_worker *worker;
	struct msg_request *request; /* whose arena holds this */
	const Bulkhead__ImagesWriteRequest *m;
	struct child *child;
	int fds[N_FDS];
};

/* In a child's values: a digest's text after the number. */
#define VALUE_SIZE 0
#define VALUE_DIGEST 1
_Static_assert(VALUE_DIGEST + sizeof(((struct encode_result *)0)->digest) / sizeof(uint64_t) <= CHILD_VALUES, "");

/* --- in the child --- */

static int images_send(const struct writing *x, struct encode_result *ret_result, struct fault *fault) {
	CLEANUP_FD int file = openat(x->worker->rooms.layers_staging, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct tar_writer w = { .fd = file };
	if (file < 0)
		return fault_errno(fault, errno, "make a file for the archive");
	int r = criu_images_write(&w, x->fds[FOLDER], "");
	tar_write_end(&w);
	if (r < 0)
		return fault_errno(fault, r, "write the archive");
	return encode_file(file, w.at, x->fds[IMAGES], ENCODING_NONE, ret_result, fault);
}

static int writer_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct writing *x = arg;
	struct encode_result result;
	int r = criu_gate_wait(x->fds[GATE], BULKHEAD__GATE_WORD__GATE_DUMPED, fault);
	if (r == 0 && (r = criu_gate_go(x->fds[GATE])) < 0)
		r = fault_errno(fault, r, "let the container go on");
	if (r == 0)
		r = criu_gate_wait(x->fds[GATE], BULKHEAD__GATE_WORD__GATE_ENDED, fault);
	if (r < 0)
		return r;
	/* The descriptors' other users may have liked it otherwise. */
	fcntl(x->fds[IMAGES], F_SETFL, 0);
	fcntl(x->fds[TEXT], F_SETFL, 0);
	r = fd_write_all(x->fds[TEXT], x->m->text.data, x->m->text.len);
	r = r < 0 ? fault_errno(fault, r, "write the text beside the archive") : images_send(x, &result, fault);
	if (r < 0)
		return r;
	ret_values[VALUE_SIZE] = result.size;
	memcpy(&ret_values[VALUE_DIGEST], result.digest, sizeof(result.digest));
	return 0;
}

/* --- in the worker --- */

static void written(void *ctx, const struct child_result *result) {
	struct writing *x = ctx;
	char digest[sizeof(((struct encode_result *)0)->digest)];
	Bulkhead__FileDigest done = BULKHEAD__FILE_DIGEST__INIT;
	x->request->cancelled = NULL;
	if (result->fault.code != FAULT_NONE) {
		msg_fail(x->request, &result->fault);
		return;
	}
	memcpy(digest, &result->values[VALUE_DIGEST], sizeof(digest));
	done.digest = digest;
	done.size = result->values[VALUE_SIZE];
	images_write_reply(x->request, &done, NULL, 0);
}

static void writing_cancelled(struct msg_request *r, void *ctx) {
	const struct writing *x = ctx;
	r->cancelled = NULL;
	child_kill(x->child);
}

static int writer_start(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ImagesWriteRequest *m) {
	struct writing *x = arena_zalloc(&r->arena, sizeof(*x));
	if (!x)
		return -ENOMEM;
	*x = (struct writing){ .worker = s, .request = r, .m = m };
	memcpy(x->fds, r->fds, sizeof(x->fds));
	const struct child_options options = {
		.name = "images",
		.keep = { s->rooms.layers_staging, x->fds[FOLDER], x->fds[GATE], x->fds[IMAGES], x->fds[TEXT] },
		.n_keep = 5,
		.run = writer_run,
		.arg = x,
		.done = written,
		.ctx = x,
	};
	int e = child_start(s->loop, &options, &x->child);
	if (e < 0)
		return e;
	/* The child has them; here they would keep the gate and the pipes from ending. */
	for (size_t i = 0; i < N_FDS; i++)
		fd_close_p(&r->fds[i]);
	r->cancelled = writing_cancelled;
	r->cancelled_ctx = x;
	return 0;
}

void on_images_write(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__ImagesWriteRequest *m) {
	struct fault fault;
	int e = writer_start(s, r, m);
	if (e < 0) {
		fault_errno(&fault, e, "write the archive of a checkpoint");
		msg_fail(r, &fault);
	}
}
