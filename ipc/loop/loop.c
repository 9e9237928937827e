/*
 * The ring itself: set-up, restriction, the turn, and the life of a source.
 *
 * A turn submits what was prepared, waits for a completion or for the earliest
 * timer, hands each completion to its source, then runs timers and deferred
 * calls. The kernel never holds a pointer to freed memory: a source whose
 * operation is in the ring is freed by the completion that ends it.
 */
#include "loop/internal.h"

#include "base/clock.h"
#include "base/fd.h"

#include <sys/mman.h>

static int buffers_init(struct loop *l, const struct loop_options *o) {
	if (!o->buffers)
		return 0;
	l->n_buffers = o->buffers;
	l->buffer_size = o->buffer_size ? o->buffer_size : 16384;
	size_t ring_size = l->n_buffers * sizeof(struct io_uring_buf);
	size_t size = (size_t)l->n_buffers * l->buffer_size;
	void *ring = mmap(NULL, ring_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring == MAP_FAILED)
		return -errno;
	l->buffer_ring = ring;
	l->buffers = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (l->buffers == MAP_FAILED) {
		l->buffers = NULL;
		return -errno;
	}
	struct io_uring_buf_reg reg = {
		.ring_addr = (uintptr_t)ring,
		.ring_entries = l->n_buffers,
		.bgid = LOOP_BUFFER_GROUP,
	};
	int r = io_uring_register_buf_ring(&l->ring, &reg, 0);
	if (r < 0)
		return r;
	io_uring_buf_ring_init(l->buffer_ring);
	for (unsigned i = 0; i < l->n_buffers; i++)
		io_uring_buf_ring_add(l->buffer_ring, l->buffers + (size_t)i * l->buffer_size, l->buffer_size,
				      (unsigned short)i, io_uring_buf_ring_mask(l->n_buffers), (int)i);
	io_uring_buf_ring_advance(l->buffer_ring, (int)l->n_buffers);
	return 0;
}

int loop_new(const struct loop_options *options, struct loop **ret_loop) {
	static const struct loop_options defaults = { 0 };
	if (!options)
		options = &defaults;
	CLEANUP_FREE struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	list_init(&l->deferred);
	list_init(&l->known);
	int r = io_uring_queue_init(options->entries ? options->entries : 64, &l->ring,
				    IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
					IORING_SETUP_CLAMP);
	if (r < 0)
		return r;
	struct loop *made = take_ptr(l);
	/* A forked child that had the ring mapped would keep it, and with it
	 * every descriptor that it polls, open beyond our death. */
	r = io_uring_ring_dontfork(&made->ring);
	if (r == 0)
		r = loop_known(made);
	if (r == 0)
		r = buffers_init(made, options);
	if (r < 0) {
		loop_free(made);
		return r;
	}
	*ret_loop = made;
	return 0;
}

void loop_free(struct loop *l) {
	if (!l)
		return;
	/* Ends every operation; sources that their owners forgot leak visibly. */
	list_unlink(&l->known);
	io_uring_queue_exit(&l->ring);
	if (l->buffer_ring)
		munmap(l->buffer_ring, l->n_buffers * sizeof(struct io_uring_buf));
	if (l->buffers)
		munmap(l->buffers, (size_t)l->n_buffers * l->buffer_size);
	free(l->timers);
	free(l);
}

/* A kernel refuses rules about opcodes that it doesn't know, and never does
 * what they would do. */
static int restrict_to(struct loop *l, const uint8_t *opcodes, size_t n) {
	struct io_uring_restriction rules[66];
	if (n > ARRAY_SIZE(rules) - 1)
		return -EINVAL;
	struct io_uring_probe *probe = io_uring_get_probe_ring(&l->ring);
	if (!probe)
		return -ENOMEM;
	memset(rules, 0, sizeof(rules));
	unsigned known = 0;
	for (size_t i = 0; i < n; i++) {
		if (!io_uring_opcode_supported(probe, opcodes[i]))
			continue;
		rules[known].opcode = IORING_RESTRICTION_SQE_OP;
		rules[known++].sqe_op = opcodes[i];
	}
	io_uring_free_probe(probe);
	rules[known].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	rules[known].sqe_flags = IOSQE_BUFFER_SELECT;
	return io_uring_register_restrictions(&l->ring, rules, known + 1);
}

int loop_enable(struct loop *l, const uint8_t *opcodes, size_t n) {
	int r = n > 0 ? restrict_to(l, opcodes, n) : 0;
	return r < 0 ? r : io_uring_enable_rings(&l->ring);
}

/* --- sources --- */

struct loop_source *loop_source_new(struct loop *l, int fd, void *fn, void *ctx) {
	struct loop_source *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->loop = l;
	s->fd = fd;
	s->fn = fn;
	s->ctx = ctx;
	list_init(&s->node);
	return s;
}

void loop_source_drop(struct loop_source *s) {
	buffer_deinit(&s->data);
	free(s);
}

struct io_uring_sqe *loop_sqe(struct loop_source *s) {
	struct io_uring_sqe *sqe = io_uring_get_sqe(&s->loop->ring);
	if (!sqe) {
		io_uring_submit(&s->loop->ring);
		sqe = io_uring_get_sqe(&s->loop->ring);
	}
	if (sqe)
		s->armed = true;
	return sqe;
}

/* The submission is at once: the owner may close the descriptor next, and an
 * operation that still waits in the queue would then hit a stranger's. */
void loop_cancel(struct loop_source *s) {
	struct io_uring *ring = &s->loop->ring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	if (!sqe) {
		io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	if (sqe) {
		io_uring_prep_cancel(sqe, s, 0);
		io_uring_sqe_set_data(sqe, NULL);
	}
	io_uring_submit(ring);
}

static void source_collect(struct loop_source *s) {
	if (s->gone && !s->armed && !s->busy)
		loop_source_drop(s);
}

void loop_source_free(struct loop_source *s) {
	if (!s)
		return;
	s->gone = true;
	list_unlink(&s->node);
	loop_timer_forget(s);
	if (s->armed)
		loop_cancel(s);
	source_collect(s);
}

/* --- the turn --- */

static void complete(struct loop *l, struct io_uring_cqe *cqe) {
	struct loop_source *s = io_uring_cqe_get_data(cqe);
	int res = cqe->res;
	unsigned flags = cqe->flags;
	io_uring_cqe_seen(&l->ring, cqe);
	if (s) {
		if (!(flags & IORING_CQE_F_MORE))
			s->armed = false;
		s->busy = true;
		s->complete(s, res, flags);
		s->busy = false;
	}
	if (flags & IORING_CQE_F_BUFFER) {
		unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
		io_uring_buf_ring_add(l->buffer_ring, l->buffers + (size_t)id * l->buffer_size, l->buffer_size,
				      (unsigned short)id, io_uring_buf_ring_mask(l->n_buffers), 0);
		io_uring_buf_ring_advance(l->buffer_ring, 1);
	}
	if (s)
		source_collect(s);
}

static void run_deferred(struct loop *l) {
	/* What is deferred meanwhile has its turn next time. */
	struct list batch;
	list_init(&batch);
	while (!list_empty(&l->deferred))
		list_append(&batch, list_pop(&l->deferred));
	struct list *n;
	while ((n = list_pop(&batch))) {
		struct loop_source *s = list_entry(n, struct loop_source, node);
		s->busy = true;
		((loop_timer_fn)s->fn)(s->ctx);
		s->busy = false;
		source_collect(s);
	}
}

static int64_t wait_time(const struct loop *l, int64_t timeout_ns) {
	if (!list_empty(&l->deferred))
		return 0;
	if (l->n_timers > 0) {
		int64_t left = MAX(l->timers[1]->deadline - clock_mono(), INT64_C(0));
		return timeout_ns < 0 ? left : MIN(left, timeout_ns);
	}
	return timeout_ns;
}

int loop_turn(struct loop *l, int64_t timeout_ns) {
	int64_t wait = wait_time(l, timeout_ns);
	struct io_uring_cqe *cqe;
	int r;
	if (wait < 0) {
		r = io_uring_submit_and_wait(&l->ring, 1);
	} else if (wait == 0) {
		r = io_uring_submit_and_get_events(&l->ring);
	} else {
		struct __kernel_timespec ts = { .tv_sec = wait / NS_PER_SEC, .tv_nsec = wait % NS_PER_SEC };
		r = io_uring_submit_and_wait_timeout(&l->ring, &cqe, 1, &ts, NULL);
	}
	if (r < 0 && r != -ETIME && r != -EINTR && r != -EAGAIN && r != -EBUSY)
		return r;
	/* A bound, so that completions that beget completions can't starve the timers. */
	for (unsigned i = 0; i < 256 && io_uring_peek_cqe(&l->ring, &cqe) == 0; i++)
		complete(l, cqe);
	loop_timers_run(l);
	run_deferred(l);
	return 0;
}

int loop_run(struct loop *l) {
	l->running = true;
	l->result = 0;
	while (l->running) {
		int r = loop_turn(l, -1);
		if (r < 0)
			return r;
	}
	return l->result;
}

void loop_stop(struct loop *l, int result) {
	l->running = false;
	l->result = result;
}
