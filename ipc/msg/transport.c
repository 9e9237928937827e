/*
 * How frames travel: by a ring pair with an eventfd each way and a side socket
 * for descriptors, or as packets of one socket. What finds no room waits in
 * the backlog, in order. Whoever breaks the format is lost at once.
 */
#include "msg/internal.h"

#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BATCH_MAX 128

static void fds_close(int *fds, size_t n) {
	for (size_t i = 0; i < n; i++)
		fd_replace(&fds[i], -1);
}

static void outgoing_free(struct outgoing *o) {
	if (!o)
		return;
	fds_close(o->fds, FRAME_FDS_MAX);
	buffer_deinit(&o->payload);
	free(o);
}

/* --- sending --- */

static int packet_send(int socket, struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds) {
	union {
		char space[CMSG_SPACE(sizeof(int) * FRAME_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n_iov };
	if (n_fds > 0) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	ssize_t n = sendmsg(socket, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EWOULDBLOCK || errno == ENOBUFS || errno == ETOOMANYREFS ? -EAGAIN : -errno;
	return 0;
}

static void wake_peer(struct link *l) {
	uint64_t one = 1;
	/* Can only fail when the counter is full: then the peer is awake anyway. */
	ssize_t ignored = write(l->ends.tx_event, &one, sizeof(one));
	(void)ignored;
}

static int send_by_ring(struct link *l, struct outgoing *o, const struct frame *f, const void *payload, size_t size,
			const int *fds) {
	struct frame copy = *f;
	if (f->n_fds > 0) {
		copy.fd_seq = l->fd_seq_tx;
		if (!o || !o->fds_sent) {
			struct iovec iov = { &copy.fd_seq, sizeof(copy.fd_seq) };
			int r = packet_send(l->ends.side, &iov, 1, fds, f->n_fds);
			if (r < 0)
				return r;
		}
	}
	int r = ring_push(&l->ring, &copy, sizeof(copy), payload, size);
	if (r == -EAGAIN && o)
		o->fds_sent = f->n_fds > 0;
	if (r < 0)
		return r;
	if (f->n_fds > 0)
		l->fd_seq_tx++;
	if (r == 1)
		wake_peer(l);
	return 0;
}

static int send_by_socket(struct link *l, const struct frame *f, const void *payload, size_t size, const int *fds) {
	struct iovec iov[2] = { { (void *)f, sizeof(*f) }, { (void *)payload, size } };
	return packet_send(l->socket, iov, size ? 2 : 1, fds, f->n_fds);
}

static int outgoing_send(struct link *l, struct outgoing *o) {
	return l->by_ring ? send_by_ring(l, o, &o->frame, o->payload.data, o->payload.size, o->fds)
			  : send_by_socket(l, &o->frame, o->payload.data, o->payload.size, o->fds);
}

static void flush_due(void *ctx);

/* A full side socket tells nobody when it has room again. */
static void flush_later(struct link *l) {
	if (!l->flush_timer && loop_timer(l->options.loop, clock_mono() + NS_PER_MS, flush_due, l, &l->flush_timer) < 0)
		l->flush_timer = NULL;
}

static int backlog_flush(struct link *l) {
	while (!list_empty(&l->backlog)) {
		struct outgoing *o = list_entry(l->backlog.next, struct outgoing, node);
		int r = outgoing_send(l, o);
		if (r == -EAGAIN) {
			flush_later(l);
			return 0;
		}
		if (r < 0)
			return r;
		list_unlink(&o->node);
		outgoing_free(o);
	}
	return 0;
}

static void flush_due(void *ctx) {
	struct link *l = ctx;
	loop_source_free_p(&l->flush_timer);
	int r = backlog_flush(l);
	if (r < 0)
		link_lost(l, r == -EBADMSG, "send: %s", strerrordesc_np(-r));
}

static int enqueue(struct link *l, const struct frame *f, const void *payload, size_t size, const int *fds) {
	struct outgoing *o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	o->frame = *f;
	for (size_t i = 0; i < FRAME_FDS_MAX; i++)
		o->fds[i] = -1;
	buffer_add(&o->payload, payload, size);
	int r = o->payload.failed ? -ENOMEM : 0;
	for (size_t i = 0; r == 0 && i < f->n_fds; i++) {
		o->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (o->fds[i] < 0)
			r = -errno;
	}
	if (r < 0) {
		outgoing_free(o);
		return r;
	}
	list_append(&l->backlog, &o->node);
	flush_later(l);
	return 0;
}

static int payload_memfd(const void *payload, size_t size, int *ret_fd) {
	CLEANUP_FD int fd = memfd_create("bulkhead-message", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	int r = fd_write_all(fd, payload, size);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = take_fd(&fd);
	return 0;
}

int transport_send(struct link *l, const struct frame *frame, const void *payload, const int *fds, size_t n_fds) {
	if (!l->attached)
		return -ENOTCONN;
	if (n_fds > MSG_FDS_MAX)
		return -EINVAL;
	CLEANUP_FD int memfd = -1;
	struct frame f = *frame;
	size_t inline_size = f.size;
	int all[FRAME_FDS_MAX];
	if (f.size > FRAME_INLINE_MAX) {
		int r = payload_memfd(payload, f.size, &memfd);
		if (r < 0)
			return r;
		all[f.n_fds++] = memfd;
		f.flags |= FRAME_BY_FD;
		inline_size = 0;
	}
	for (size_t i = 0; i < n_fds; i++)
		all[f.n_fds++] = fds[i];
	/* With descriptors the queue is always used, so that a push that finds
	 * the ring full after the descriptors went out is not sent twice. */
	int r = -EAGAIN;
	if (list_empty(&l->backlog) && (f.n_fds == 0 || !l->by_ring))
		r = l->by_ring ? send_by_ring(l, NULL, &f, payload, inline_size, NULL)
			       : send_by_socket(l, &f, payload, inline_size, all);
	if (r != -EAGAIN)
		return r;
	r = enqueue(l, &f, payload, inline_size, all);
	return r < 0 ? r : backlog_flush(l);
}

/* --- receiving --- */

static ssize_t packet_receive(int socket, void *data, size_t size, int fds[FRAME_FDS_MAX], size_t *ret_n_fds) {
	union {
		char space[CMSG_SPACE(sizeof(int) * FRAME_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { data, size };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	*ret_n_fds = 0;
	ssize_t n = recvmsg(socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			*ret_n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			memcpy(fds, CMSG_DATA(c), *ret_n_fds * sizeof(int));
		}
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		fds_close(fds, *ret_n_fds);
		*ret_n_fds = 0;
		return -EBADMSG;
	}
	return n;
}

static int fd_payload_read(int fd, size_t size, struct buffer *ret_payload) {
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);
	int need = F_SEAL_SHRINK | F_SEAL_WRITE;
	if (fstat(fd, &st) < 0 || seals < 0 || (seals & need) != need || (size_t)st.st_size != size)
		return -EBADMSG;
	if (!buffer_reserve(ret_payload, size))
		return -ENOMEM;
	while (ret_payload->size < size) {
		ssize_t n = pread(fd, ret_payload->data + ret_payload->size, size - ret_payload->size,
				  (off_t)ret_payload->size);
		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		ret_payload->size += (size_t)n;
	}
	return 0;
}

/* One whole frame with its descriptors, which are closed here unless taken. */
static void frame_arrived(struct link *l, const uint8_t *data, size_t size, int *fds, size_t n_fds) {
	struct frame f;
	CLEANUP_BUFFER struct buffer big = { 0 };
	if (size < sizeof(f)) {
		link_lost(l, true, "frame of %zu bytes", size);
		return;
	}
	memcpy(&f, data, sizeof(f));
	size_t by_fd = f.flags & FRAME_BY_FD ? 1 : 0;
	const struct msg_row *row = msg_row_find(f.number);
	if (!row || f.size > row->limit || f.n_fds != n_fds || n_fds < by_fd ||
	    size - sizeof(f) != (by_fd ? 0 : f.size)) {
		link_lost(l, true, "frame of message %u with size %u and %u descriptors breaks its row", f.number,
			  f.size, f.n_fds);
		return;
	}
	const uint8_t *payload = data + sizeof(f);
	if (by_fd) {
		int r = fd_payload_read(fds[0], f.size, &big);
		if (r < 0) {
			link_lost(l, r == -EBADMSG, "%s: payload by descriptor: %s", row->name, strerrordesc_np(-r));
			return;
		}
		payload = big.data;
	}
	link_receive(l, &f, payload, fds + by_fd, n_fds - by_fd);
}

static int ring_fds(struct link *l, const struct frame *f, int fds[FRAME_FDS_MAX], size_t *ret_n) {
	uint64_t seq;
	ssize_t n = packet_receive(l->ends.side, &seq, sizeof(seq), fds, ret_n);
	if (n != sizeof(seq) || seq != l->fd_seq_rx || f->fd_seq != seq)
		return -EBADMSG;
	l->fd_seq_rx++;
	return 0;
}

static void ring_record(struct link *l) {
	int fds[FRAME_FDS_MAX];
	size_t n_fds = 0;
	struct frame f = { 0 };
	/* The handler may send, reply, even free links; the record is ours. */
	CLEANUP_BUFFER struct buffer record = buffer_take(&l->record);
	if (record.size >= sizeof(f))
		memcpy(&f, record.data, sizeof(f));
	if (f.n_fds > 0 && ring_fds(l, &f, fds, &n_fds) < 0) {
		fds_close(fds, n_fds);
		link_lost(l, true, "descriptors of message %u are missing", f.number);
		return;
	}
	frame_arrived(l, record.data, record.size, fds, n_fds);
	fds_close(fds, n_fds);
	if (!l->record.data)
		l->record = buffer_take(&record);
}

static void drain(struct link *l);

static void drain_due(void *ctx) {
	struct link *l = ctx;
	loop_source_free_p(&l->drain_again);
	drain(l);
}

static void drain_later(struct link *l) {
	if (!l->drain_again && loop_defer(l->options.loop, drain_due, l, &l->drain_again) < 0)
		l->drain_again = NULL;
}

static void drain_ring(struct link *l) {
	unsigned generation = l->generation;
	for (;;) {
		int r = 1, popped = 0;
		while (popped < BATCH_MAX && (r = ring_pop(&l->ring, &l->record)) == 1) {
			popped++;
			ring_record(l);
			if (l->generation != generation)
				return;
		}
		if (r < 0) {
			link_lost(l, r == -EBADMSG, "ring: %s", strerrordesc_np(-r));
			return;
		}
		if (popped > 0 && ring_peer_waits(&l->ring))
			wake_peer(l);
		if (popped == BATCH_MAX) {
			drain_later(l); /* the others' turn first */
			return;
		}
		if (ring_sleep(&l->ring))
			return;
	}
}

static void drain_socket(struct link *l) {
	unsigned generation = l->generation;
	uint8_t data[sizeof(struct frame) + FRAME_INLINE_MAX];
	for (int i = 0; i < BATCH_MAX; i++) {
		int fds[FRAME_FDS_MAX];
		size_t n_fds;
		ssize_t n = packet_receive(l->socket, data, sizeof(data), fds, &n_fds);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) {
			link_lost(l, n == -EBADMSG, "%s", n == 0 ? "closed" : strerrordesc_np((int)-n));
			return;
		}
		frame_arrived(l, data, (size_t)n, fds, n_fds);
		fds_close(fds, n_fds);
		if (l->generation != generation)
			return;
	}
	drain_later(l);
}

static void drain(struct link *l) {
	int r = backlog_flush(l);
	if (r < 0) {
		link_lost(l, r == -EBADMSG, "send: %s", strerrordesc_np(-r));
		return;
	}
	l->draining = true;
	if (l->by_ring)
		drain_ring(l);
	else
		drain_socket(l);
	l->draining = false;
	link_collect(l);
}

static void wake_arrived(void *ctx, uint32_t events) {
	drain(ctx);
}

int transport_start(struct link *l) {
	l->generation++;
	l->fd_seq_tx = l->fd_seq_rx = 0;
	l->attached = true;
	int fd = l->by_ring ? l->ends.rx_event : l->socket;
	int r = loop_poll(l->options.loop, fd, l->by_ring ? POLLIN : POLLIN | POLLOUT, wake_arrived, l, &l->wake);
	if (r == 0)
		drain_later(l); /* what came before we looked */
	return r;
}

void transport_close(struct link *l) {
	l->generation++;
	l->attached = false;
	loop_source_free_p(&l->wake);
	loop_source_free_p(&l->drain_again);
	loop_source_free_p(&l->flush_timer);
	struct list *n;
	while ((n = list_pop(&l->backlog)))
		outgoing_free(list_entry(n, struct outgoing, node));
	ring_deinit(&l->ring);
	link_ends_close(&l->ends);
	fd_replace(&l->socket, -1);
}
