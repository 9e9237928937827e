/*
 * What clients write into the content store, by way of a pipe: its other end is
 * with whoever has the client (an API worker, or the worker that makes a layer
 * into a blob), which can append bytes and nothing else. A write is known by an
 * id that the metadata worker chose, and its file is there for the next one who
 * opens that id, unless it is a passing one.
 *
 *   open    what an earlier writer left is hashed, then the answer says how far
 *           it went. The blob that the writer expects may be here already: then
 *           the write is whole as it is, and has no file.
 *   sync    answered when so many bytes have come out of the pipe
 *   commit  the same; then they become a blob (ingest.h)
 *
 * The write is open as long as the pipe's other end is: its end is the end of
 * the lock, and nobody has to be told.
 */
#include "write.h"

#include "ingest.h"
#include "msg/typed.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#define CHUNK (64 * 1024)

struct write {
	struct map_node node; /* image_worker.writes */
	struct image_worker *worker;
	char id[ID_SIZE];
	int pipe;
	struct loop_source *readable;
	struct ingest *ingest; /* NULL: whole, or failed */
	char whole[DIGEST_SIZE];
	uint64_t whole_size;
	int64_t updated_at;
	bool ended;   /* the pipe is */
	bool passing; /* nothing of it stays */

	/* What waits for the bytes up to offset. */
	struct msg_request *waiting;
	const Bulkhead__WriteCommitRequest *commit; /* of it; NULL: it is no commit */
	uint64_t offset;
	bool restart, committing;
	/* Opens it once this writer is gone, which it is as far as it knows. */
	struct msg_request *next;
	const Bulkhead__WriteOpenRequest *next_open;
};

static struct write *write_find(struct image_worker *w, const char *id) {
	struct map_node *n = map_find(&w->writes, id);
	return n ? container_of(n, struct write, node) : NULL;
}

static void write_free(struct write *x) {
	struct image_worker *w = x->worker;
	struct msg_request *next = take_ptr(x->next);
	const Bulkhead__WriteOpenRequest *open = x->next_open;
	map_remove(&w->writes, &x->node);
	loop_source_free(x->readable);
	ingest_free(x->ingest);
	fd_close(x->pipe);
	if (x->passing)
		unlinkat(content_writes_dir(w->content), x->id, 0);
	free(x);
	if (next)
		on_write_open(w, next, open);
}

/* --- answers ---------------------------------------------------------------- */

static uint64_t offset_of(const struct write *x) {
	return x->ingest ? ingest_offset(x->ingest) : x->whole_size;
}

static void state_of(const struct write *x, Bulkhead__WriteState *s, char digest[DIGEST_SIZE]) {
	bulkhead__write_state__init(s);
	s->id = (char *)(uintptr_t)x->id;
	s->offset = offset_of(x);
	s->updated_at = x->updated_at;
	if (x->ingest)
		ingest_digest(x->ingest, digest);
	else
		memcpy(digest, x->whole, DIGEST_SIZE);
	s->digest = digest;
}

static void answer(struct write *x) {
	Bulkhead__WriteState s;
	char digest[DIGEST_SIZE];
	struct msg_request *r = take_ptr(x->waiting);
	x->commit = NULL;
	r->cancelled = NULL;
	state_of(x, &s, digest);
	msg_reply(r, &s.base, NULL, 0, false);
}

static void fail_waiting(struct write *x, const struct fault *fault) {
	struct msg_request *r = take_ptr(x->waiting);
	x->commit = NULL;
	x->restart = false;
	if (!r)
		return;
	r->cancelled = NULL;
	msg_fail(r, fault);
}

/* --- the end ---------------------------------------------------------------- */

/* Nothing more comes, and nothing is under way. */
static bool over(const struct write *x) {
	return x->ended && !x->committing &&
	       (!x->ingest || (ingest_ready(x->ingest) && ingest_written(x->ingest) == ingest_offset(x->ingest)));
}

static bool close_when_over(struct write *x) {
	struct fault fault;
	if (!over(x))
		return false;
	fault_set(&fault, FAULT_ABORTED, "the writer went away after %llu bytes", (unsigned long long)offset_of(x));
	fail_waiting(x, &fault);
	write_free(x);
	return true;
}

static void broken(struct write *x, const struct fault *fault) {
	loop_source_free_p(&x->readable);
	x->committing = false;
	x->ended = true;
	ingest_free(take_ptr(x->ingest));
	fail_waiting(x, fault);
	write_free(x);
}

/* --- what waits for bytes --------------------------------------------------- */

/* A blob is nobody's to write to: with it the write is over. */
static void committed(void *ctx, const struct fault *fault) {
	struct write *x = ctx;
	x->committing = false;
	if (fault) {
		fail_waiting(x, fault);
		close_when_over(x);
	} else {
		answer(x);
		write_free(x);
	}
}

/* Of a whole one nothing is left to do, but for an earlier writer's bytes. */
static void commit(struct write *x) {
	const Bulkhead__WriteCommitRequest *m = x->commit;
	if (x->ingest) {
		x->committing = true;
		ingest_commit_as(x->ingest, m->size ? m->size : UINT64_MAX, m->digest, committed);
		return;
	}
	unlinkat(content_writes_dir(x->worker->content), x->id, 0);
	committed(x, NULL);
}

static int begin_file(struct write *x, struct fault *fault);

/* A whole one becomes one with a file, in which nothing is yet. */
static int restart(struct write *x, struct fault *fault) {
	if (!x->ingest) {
		unlinkat(content_writes_dir(x->worker->content), x->id, 0);
		x->whole_size = 0;
		return begin_file(x, fault);
	}
	int r = ingest_restart(x->ingest);
	return r < 0 ? fault_errno(fault, r, "begin the write anew") : 0;
}

static void serve_restart(struct write *x) {
	struct fault fault;
	if (x->ingest && ingest_written(x->ingest) != ingest_offset(x->ingest))
		return;
	x->restart = false;
	if (restart(x, &fault) < 0)
		fail_waiting(x, &fault);
	else
		answer(x);
}

/* False: the write is gone. */
static bool serve_waiting(struct write *x) {
	if (!x->waiting || x->committing || (x->ingest && !ingest_ready(x->ingest)))
		return true;
	if (x->restart) {
		serve_restart(x);
	} else if (offset_of(x) >= x->offset && x->commit) {
		bool stays = x->ingest != NULL;
		commit(x);
		return stays;
	} else if (offset_of(x) >= x->offset) {
		answer(x);
	}
	return true;
}

/* --- bytes ------------------------------------------------------------------ */

/* How many of the pipe's bytes may be read now. A whole write takes none. */
static size_t room(const struct write *x) {
	size_t n = x->ingest && ingest_ready(x->ingest) && !x->committing ? ingest_room(x->ingest) : 0;
	return MIN(n, (size_t)CHUNK);
}

static void pump(struct write *x) {
	uint8_t data[CHUNK];
	struct fault fault;
	while (!x->ended && room(x) > 0) {
		ssize_t n = read(x->pipe, data, room(x));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		x->ended = n <= 0;
		int r = n > 0 ? ingest_add(x->ingest, data, (size_t)n) : 0;
		if (r < 0) {
			fault_errno(&fault, r, "keep what was written");
			broken(x, &fault);
			return;
		}
		x->updated_at = n > 0 ? clock_real() : x->updated_at;
	}
	if (serve_waiting(x))
		close_when_over(x);
}

static void readable(void *ctx, uint32_t events) {
	struct write *x = ctx;
	/* A whole write reads nothing: the end of the pipe is all that it waits for. */
	if (!x->ingest && (events & POLLHUP))
		x->ended = true;
	pump(x);
}

static void moved(void *ctx) {
	pump(ctx);
}

static void failed(void *ctx, const struct fault *fault) {
	broken(ctx, fault);
}

static int begin_file(struct write *x, struct fault *fault) {
	return ingest_new(
	    &(struct ingest_options){
		.content = x->worker->content,
		.size = UINT64_MAX,
		.write = x->id,
		.resume = true,
		.moved = moved,
		.failed = failed,
		.ctx = x,
	    },
	    &x->ingest, fault);
}

/* --- opening ---------------------------------------------------------------- */

static bool is_whole(struct write *x, const Bulkhead__WriteOpenRequest *m) {
	CLEANUP_FD int fd = -1;
	struct stat st;
	if (!*m->expected ||
	    content_blob_open(x->worker->content, m->expected, m->total ? m->total : UINT64_MAX, &fd) < 0 ||
	    fstat(fd, &st) < 0)
		return false;
	snprintf(x->whole, sizeof(x->whole), "%s", m->expected);
	x->whole_size = (uint64_t)st.st_size;
	return true;
}

static int write_begin(struct write *x, struct msg_request *r, const Bulkhead__WriteOpenRequest *m,
		       struct fault *fault) {
	x->pipe = take_fd(&r->fds[0]);
	x->updated_at = clock_real();
	int e = fcntl(x->pipe, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (e == 0)
		e = loop_poll(x->worker->loop, x->pipe, POLLIN, readable, x, &x->readable);
	if (e < 0)
		return fault_errno(fault, e, "open the write");
	return is_whole(x, m) ? 0 : begin_file(x, fault);
}

static void gave_up(struct msg_request *r, void *ctx) {
	struct write *x = ctx;
	struct fault fault;
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	/* A commit goes on: it may be half done. */
	if (!x->committing)
		fail_waiting(x, &fault);
}

static void wait_for(struct write *x, struct msg_request *r, uint64_t offset) {
	x->waiting = r;
	x->offset = offset;
	r->cancelled = gave_up;
	r->cancelled_ctx = x;
	pump(x);
}

/* Its writer is there still, unless the pipe says otherwise. */
static void open_next(struct write *x, struct msg_request *r, const Bulkhead__WriteOpenRequest *m) {
	struct pollfd p = { .fd = x->pipe };
	if (!x->next && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP)) {
		x->next = r;
		x->next_open = m;
		return;
	}
	msg_failf(r, FAULT_UNAVAILABLE, "it is being written by somebody else");
}

void on_write_open(struct image_worker *w, struct msg_request *r, const Bulkhead__WriteOpenRequest *m) {
	struct fault fault;
	struct write *x = write_find(w, m->id);
	if (!id_valid(m->id) || (*m->expected && !digest_valid(m->expected))) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "write_open: id or digest is malformed");
		return;
	}
	if (x) {
		open_next(x, r, m);
		return;
	}
	x = calloc(1, sizeof(*x));
	if (!x) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "write_open: out of memory");
		return;
	}
	x->worker = w;
	x->pipe = -1;
	x->passing = m->passing;
	snprintf(x->id, sizeof(x->id), "%s", m->id);
	int e = map_insert(&w->writes, &x->node, x->id);
	if (e == 0 && (e = write_begin(x, r, m, &fault)) < 0)
		write_free(x);
	else if (e < 0)
		free(x);
	if (e < 0)
		msg_fail(r, &fault);
	else
		wait_for(x, r, 0);
}

/* --- the other rows --------------------------------------------------------- */

/* NULL: the request has been failed. */
static struct write *write_of(struct image_worker *w, struct msg_request *r, const char *id) {
	struct write *x = write_find(w, id);
	if (!x || x->ended)
		msg_failf(r, FAULT_UNAVAILABLE, "the write isn't open: open it again, and go on from there");
	else if (x->waiting)
		msg_failf(r, FAULT_FAILED_PRECONDITION, "the write has another request under way");
	return x && !x->ended && !x->waiting ? x : NULL;
}

void on_write_sync(struct image_worker *w, struct msg_request *r, const Bulkhead__WriteSyncRequest *m) {
	struct write *x = write_of(w, r, m->id);
	if (!x)
		return;
	x->restart = m->restart;
	wait_for(x, r, m->offset);
}

void on_write_commit(struct image_worker *w, struct msg_request *r, const Bulkhead__WriteCommitRequest *m) {
	struct write *x = write_of(w, r, m->id);
	if (!x)
		return;
	if (*m->digest && !digest_valid(m->digest)) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "\"%.100s\" is no sha256 digest", m->digest);
	} else if (!x->ingest && *m->digest && strcmp(m->digest, x->whole) != 0) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "unexpected commit digest %s, expected %s", x->whole,
			  m->digest);
	} else if (!x->ingest && m->size && m->size != x->whole_size) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "unexpected commit size %llu, expected %llu",
			  (unsigned long long)x->whole_size, (unsigned long long)m->size);
	} else {
		x->commit = m;
		wait_for(x, r, m->offset);
	}
}

/* Of one that is open, or of the file that is left. False: there is neither. */
static bool describe(struct image_worker *w, const char *id, Bulkhead__WriteState *s, char digest[DIGEST_SIZE]) {
	const struct write *x = write_find(w, id);
	struct stat st;
	if (x) {
		state_of(x, s, digest);
		return true;
	}
	if (!id_valid(id) || fstatat(content_writes_dir(w->content), id, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	bulkhead__write_state__init(s);
	s->id = (char *)(uintptr_t)id;
	s->offset = (uint64_t)st.st_size;
	s->updated_at = st.st_mtim.tv_sec * NS_PER_SEC + st.st_mtim.tv_nsec;
	return true;
}

void on_write_list(struct image_worker *w, struct msg_request *r, const Bulkhead__KeyList *m) {
	Bulkhead__WriteList list = BULKHEAD__WRITE_LIST__INIT;
	list.writes = arena_alloc(&r->arena, (m->n_ids + 1) * sizeof(*list.writes));
	for (size_t i = 0; list.writes && i < m->n_ids; i++) {
		Bulkhead__WriteState *s = arena_alloc(&r->arena, sizeof(*s));
		char *digest = arena_alloc(&r->arena, DIGEST_SIZE);
		if (s && digest && describe(w, m->ids[i], s, digest))
			list.writes[list.n_writes++] = s;
	}
	write_list_reply(r, &list, NULL, 0);
}

void on_write_remove(struct image_worker *w, struct msg_request *r, const Bulkhead__KeyList *m) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct fault fault;
	fault_set(&fault, FAULT_ABORTED, "the write was given up");
	for (size_t i = 0; i < m->n_ids; i++) {
		struct write *x = write_find(w, m->ids[i]);
		if (x)
			broken(x, &fault);
		if (id_valid(m->ids[i]))
			unlinkat(content_writes_dir(w->content), m->ids[i], 0);
	}
	write_remove_reply(r, &done, NULL, 0);
}

void write_abandon_all(struct image_worker *w, const char *why) {
	struct fault fault;
	size_t pos;
	fault_set(&fault, FAULT_UNAVAILABLE, "%s", why);
	for (struct map_node *n; (n = map_first(&w->writes, &pos));)
		broken(container_of(n, struct write, node), &fault);
}
