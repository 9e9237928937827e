/*
 * Sources that are operations in the ring: readiness, accepting, receiving,
 * sending, writing, syncing. Each kind is an arm function, which prepares the
 * operation, and a complete function, which gets its results.
 */
#include "loop/internal.h"

#include "base/fd.h"

#include <poll.h>

/* Since Linux 6.7; liburing 2.3 has no name for it. */
#define OP_READ_MULTISHOT 49

static int start(struct loop_source *s, struct loop_source **ret_source) {
	int r = s->arm(s);
	if (r < 0) {
		loop_source_drop(s);
		return r;
	}
	*ret_source = s;
	return 0;
}

/* --- readiness --- */

static int poll_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_poll_multishot(sqe, s->fd, s->events);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static void poll_complete(struct loop_source *s, int res, unsigned flags) {
	if (s->gone)
		return;
	/* Multishot ends when the completion queue was full, for instance. */
	if (!s->armed && res >= 0 && s->arm(s) < 0)
		res = -EAGAIN;
	((loop_ready_fn)s->fn)(s->ctx, res < 0 ? POLLERR : (uint32_t)res);
}

int loop_poll(struct loop *l, int fd, uint32_t events, loop_ready_fn fn, void *ctx, struct loop_source **ret_source) {
	struct loop_source *s = loop_source_new(l, fd, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	s->events = events;
	s->arm = poll_arm;
	s->complete = poll_complete;
	return start(s, ret_source);
}

/* --- accepting --- */

static int accept_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_multishot_accept(sqe, s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static void accept_complete(struct loop_source *s, int res, unsigned flags) {
	if (s->gone) {
		fd_close(res);
		return;
	}
	if (!s->armed && (res >= 0 || res == -ECONNABORTED || res == -EINTR || res == -EAGAIN)) {
		int r = s->arm(s);
		if (r < 0 && res < 0)
			res = r;
	}
	if (res >= 0 || !s->armed)
		((loop_accept_fn)s->fn)(s->ctx, res);
}

int loop_accept(struct loop *l, int listener, loop_accept_fn fn, void *ctx, struct loop_source **ret_source) {
	struct loop_source *s = loop_source_new(l, listener, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	s->arm = accept_arm;
	s->complete = accept_complete;
	return start(s, ret_source);
}

/* --- receiving --- */

static int recv_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_recv_multishot(sqe, s->fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = LOOP_BUFFER_GROUP;
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

/* Where multishot reads are missing (kernel before 6.7) or refused (some
 * terminals), a one-shot poll and read(2) do the same. */
static int read_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	if (s->fallback) {
		io_uring_prep_poll_add(sqe, s->fd, POLLIN);
	} else {
		io_uring_prep_rw(OP_READ_MULTISHOT, sqe, s->fd, NULL, 0, (uint64_t)-1);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = LOOP_BUFFER_GROUP;
	}
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static void data_end(struct loop_source *s, int res) {
	((loop_data_fn)s->fn)(s->ctx, NULL, res);
}

static void fallback_complete(struct loop_source *s, int res) {
	uint8_t data[4096];
	ssize_t n = res < 0 ? res : read(s->fd, data, sizeof(data));
	if (res >= 0 && n < 0)
		n = errno == EAGAIN || errno == EINTR ? -EAGAIN : errno == EIO ? 0 : -errno;
	if (n == -EAGAIN || n > 0) {
		if (n > 0)
			((loop_data_fn)s->fn)(s->ctx, data, n);
		if (!s->gone && !s->paused && !s->armed && s->arm(s) < 0)
			data_end(s, -EAGAIN);
		return;
	}
	data_end(s, (int)n);
}

static void data_complete(struct loop_source *s, int res, unsigned flags) {
	struct loop *l = s->loop;
	if (s->gone)
		return;
	if (s->fallback) {
		if (res == -ECANCELED && !s->paused)
			res = s->arm(s);
		else if (!s->paused)
			fallback_complete(s, res);
		return;
	}
	if (res > 0) {
		unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
		((loop_data_fn)s->fn)(s->ctx, l->buffers + (size_t)id * l->buffer_size, res);
	} else if (s->armed) {
		return; /* nothing said, more to come */
	} else if (res == -ECANCELED && s->paused) {
		return;
	} else if (res == -EINVAL || res == -EBADFD || res == -EOPNOTSUPP || res == -EAGAIN) {
		s->fallback = s->arm == read_arm;
		if (!s->fallback && res != -EAGAIN) {
			data_end(s, res);
			return;
		}
	} else if (res == -EIO && s->arm == read_arm) {
		data_end(s, 0); /* a terminal whose other side is gone */
		return;
	} else if (res != -ENOBUFS && res != -ECANCELED && res != -EINTR) {
		data_end(s, res);
		return;
	}
	if (!s->gone && !s->armed && !s->paused && s->arm(s) < 0)
		data_end(s, -EAGAIN);
}

static int data_source(struct loop *l, int fd, int (*arm)(struct loop_source *), loop_data_fn fn, void *ctx,
		       struct loop_source **ret_source) {
	struct loop_source *s = loop_source_new(l, fd, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	s->arm = arm;
	s->complete = data_complete;
	return start(s, ret_source);
}

int loop_recv(struct loop *l, int fd, loop_data_fn fn, void *ctx, struct loop_source **ret_source) {
	return data_source(l, fd, recv_arm, fn, ctx, ret_source);
}

int loop_read(struct loop *l, int fd, loop_data_fn fn, void *ctx, struct loop_source **ret_source) {
	return data_source(l, fd, read_arm, fn, ctx, ret_source);
}

void loop_pause(struct loop_source *s) {
	if (s->paused)
		return;
	s->paused = true;
	if (s->armed)
		loop_cancel(s);
}

int loop_resume(struct loop_source *s) {
	if (!s->paused)
		return 0;
	s->paused = false;
	/* When the cancellation is still on its way, its completion re-arms. */
	return s->armed ? 0 : s->arm(s);
}

/* --- sending and writing --- */

static int send_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_send(sqe, s->fd, s->data.data + s->done, s->data.size - s->done, MSG_NOSIGNAL | MSG_WAITALL);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static int write_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	uint64_t offset = s->offset < 0 ? (uint64_t)-1 : (uint64_t)s->offset + s->done;
	size_t n = MIN(s->data.size - s->done, (size_t)1 << 30);
	io_uring_prep_write(sqe, s->fd, s->data.data + s->done, (unsigned)n, offset);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static void output_complete(struct loop_source *s, int res, unsigned flags) {
	if (s->gone)
		return;
	if (res > 0)
		s->done += (size_t)res;
	if (res == -EINTR || (res >= 0 && s->done < s->data.size)) {
		res = res == 0 ? -EIO : s->arm(s);
		if (res == 0)
			return;
	}
	((loop_done_fn)s->fn)(s->ctx, MIN(res, 0));
}

static int output_source(struct loop *l, int fd, int64_t offset, struct buffer *data, int (*arm)(struct loop_source *),
			 loop_done_fn fn, void *ctx, struct loop_source **ret_source) {
	CLEANUP_BUFFER struct buffer taken = buffer_take(data);
	if (taken.failed)
		return -ENOMEM;
	struct loop_source *s = loop_source_new(l, fd, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	s->data = buffer_take(&taken);
	s->offset = offset;
	s->arm = arm;
	s->complete = output_complete;
	return start(s, ret_source);
}

int loop_send(struct loop *l, int fd, struct buffer *data, loop_done_fn fn, void *ctx,
	      struct loop_source **ret_source) {
	return output_source(l, fd, -1, data, send_arm, fn, ctx, ret_source);
}

int loop_write(struct loop *l, int fd, int64_t offset, struct buffer *data, loop_done_fn fn, void *ctx,
	       struct loop_source **ret_source) {
	return output_source(l, fd, offset, data, write_arm, fn, ctx, ret_source);
}

static int fsync_arm(struct loop_source *s) {
	struct io_uring_sqe *sqe = loop_sqe(s);
	if (!sqe)
		return -EAGAIN;
	io_uring_prep_fsync(sqe, s->fd, s->data_only ? IORING_FSYNC_DATASYNC : 0);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

int loop_fsync(struct loop *l, int fd, bool data_only, loop_done_fn fn, void *ctx, struct loop_source **ret_source) {
	struct loop_source *s = loop_source_new(l, fd, (void *)fn, ctx);
	if (!s)
		return -ENOMEM;
	s->data_only = data_only;
	s->arm = fsync_arm;
	s->complete = output_complete;
	return start(s, ret_source);
}
