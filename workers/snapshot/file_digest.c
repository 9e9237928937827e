/* file_digest: which archive a file is, before anything of it is read. */
#include "workers/snapshot/file_digest.h"

#include "base/fd.h"
#include "workers/snapshot/decode/internal.h"
#include "workers/snapshot/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIECE (256 * 1024)
#define PREFIX "sha256:"

#define DIGEST_VALUES (SHA256_SIZE / sizeof(uint64_t))

_Static_assert(CHILD_VALUES >= DIGEST_VALUES, "a child's values hold a digest");

/* --- in a child --- */

static int digest_read(struct digest *d, int fd) {
	CLEANUP_FREE char *piece = malloc(PIECE);
	ssize_t n;
	if (!piece)
		return -ENOMEM;
	for (off_t at = 0; (n = pread(fd, piece, PIECE, at)) > 0; at += n) {
		int r = digest_add(d, piece, (size_t)n);
		if (r < 0)
			return r;
	}
	return n < 0 ? -errno : 0;
}

static uint64_t value_of(const char *hex) {
	char text[17];
	snprintf(text, sizeof(text), "%.16s", hex);
	return strtoull(text, NULL, 16);
}

int file_digest(int fd, uint64_t ret_values[CHILD_VALUES]) {
	char text[DIGEST_SIZE];
	struct digest *d = digest_new();
	int r = d ? digest_read(d, fd) : -ENOMEM;
	if (r == 0)
		r = digest_end(d, text);
	digest_free(d);
	for (size_t i = 0; r == 0 && i < DIGEST_VALUES; i++)
		ret_values[i] = value_of(text + strlen(PREFIX) + 16 * i);
	return r;
}

void file_digest_text(const uint64_t values[CHILD_VALUES], char ret_text[DIGEST_SIZE]) {
	char *p = ret_text + sprintf(ret_text, PREFIX);
	for (size_t i = 0; i < DIGEST_VALUES; i++)
		p += sprintf(p, "%016llx", (unsigned long long)values[i]);
}

/* --- in the worker --- */

struct reading {
	struct msg_request *request; /* whose arena holds this */
	struct child *child;
	int file;
};

static int reading_run(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault) {
	const struct reading *x = arg;
	int r = file_digest(x->file, ret_values);
	return r < 0 ? fault_errno(fault, r, "read the file") : 0;
}

static void reading_done(void *ctx, const struct child_result *result) {
	struct reading *x = ctx;
	char text[DIGEST_SIZE];
	Bulkhead__FileDigest reply = BULKHEAD__FILE_DIGEST__INIT;
	x->request->cancelled = NULL;
	if (result->fault.code != FAULT_NONE) {
		msg_fail(x->request, &result->fault);
		return;
	}
	file_digest_text(result->values, text);
	reply.digest = text;
	file_digest_reply(x->request, &reply, NULL, 0);
}

static void reading_cancelled(struct msg_request *r, void *ctx) {
	const struct reading *x = ctx;
	r->cancelled = NULL;
	child_kill(x->child);
}

void on_file_digest(struct snapshot_worker *s, struct msg_request *r, const Bulkhead__Empty *m) {
	struct reading *x = arena_zalloc(&r->arena, sizeof(*x));
	struct fault fault;
	if (!x) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "read a file: out of memory");
		return;
	}
	*x = (struct reading){ .request = r, .file = r->fds[0] };
	const struct child_options options = {
		.name = "digest",
		.keep = { x->file },
		.n_keep = 1,
		.run = reading_run,
		.arg = x,
		.done = reading_done,
		.ctx = x,
	};
	int e = child_start(s->loop, &options, &x->child);
	if (e < 0) {
		fault_errno(&fault, e, "read a file");
		msg_fail(r, &fault);
		return;
	}
	fd_close_p(&r->fds[0]);
	r->cancelled = reading_cancelled;
	r->cancelled_ctx = x;
}
