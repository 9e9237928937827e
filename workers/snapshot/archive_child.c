#include "workers/snapshot/archive_child.h"

#include "base/fd.h"
#include "msg/typed.h"

#include <string.h>

/* In the child's values: a digest's text after the number. */
#define VALUE_SIZE 0
#define VALUE_DIGEST 1
_Static_assert(VALUE_DIGEST + (DIGEST_SIZE + sizeof(uint64_t) - 1) / sizeof(uint64_t) <= CHILD_VALUES, "");

void archive_child_result(uint64_t ret_values[CHILD_VALUES], const char digest[DIGEST_SIZE], uint64_t size) {
	ret_values[VALUE_SIZE] = size;
	memcpy(&ret_values[VALUE_DIGEST], digest, DIGEST_SIZE);
}

static void written(void *ctx, const struct child_result *result) {
	struct archive_child *x = ctx;
	char digest[DIGEST_SIZE];
	Bulkhead__FileDigest done = BULKHEAD__FILE_DIGEST__INIT;
	x->request->cancelled = NULL;
	if (result->fault.code != FAULT_NONE) {
		msg_fail(x->request, &result->fault);
		return;
	}
	memcpy(digest, &result->values[VALUE_DIGEST], sizeof(digest));
	done.digest = digest;
	done.size = result->values[VALUE_SIZE];
	msg_reply(x->request, &done.base, NULL, 0, false);
}

static void writing_cancelled(struct msg_request *r, void *ctx) {
	const struct archive_child *x = ctx;
	r->cancelled = NULL;
	child_kill(x->child);
}

int archive_child_start(struct archive_child *x, struct loop *loop, struct msg_request *r, const char *name,
			int another, int (*run)(void *arg, uint64_t ret_values[CHILD_VALUES], struct fault *fault),
			void *arg) {
	x->request = r;
	memcpy(x->fds, r->fds, sizeof(x->fds));
	const struct child_options options = {
		.name = name,
		.keep = { x->fds[0], x->fds[1], x->fds[2], x->fds[3], another },
		.n_keep = ARCHIVE_CHILD_FDS + 1,
		.run = run,
		.arg = arg,
		.done = written,
		.ctx = x,
	};
	int e = child_start(loop, &options, &x->child);
	if (e < 0)
		return e;
	/* The child has them; here they would keep the gate from breaking, and the pipes from ending. */
	msg_close_fds(r);
	r->cancelled = writing_cancelled;
	r->cancelled_ctx = x;
	return 0;
}
