/*
 * Between user-mode Linux and virtiofsd: messages of vhost-user, which pass as they
 * are, with their descriptors; what the guest reads and writes doesn't come by here.
 * But for the device's configuration: QEMU knows that itself, so its virtiofsd
 * doesn't offer it. User-mode Linux asks for it, and the guest finds the share by
 * the tag that is in it.
 *
 * Wire facts: docs/interop/vhost-user.rst of QEMU; struct virtio_fs_config of Linux.
 */
#include "workers/keeper/vm/vhost.h"

#include "base/fd.h"
#include "workers/keeper/vm/vm.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { GET_PROTOCOL_FEATURES = 15, SET_PROTOCOL_FEATURES = 16, GET_CONFIG = 24 };
#define REPLY 5 /* version 1, and a reply */
#define FEATURE_CONFIG (UINT64_C(1) << 9)
#define PAYLOAD_MAX 1024

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t number;
		struct {
			uint32_t offset, size, flags;
			uint8_t bytes[256];
		} config;
		uint8_t bytes[PAYLOAD_MAX];
	};
} __attribute__((packed));
#define HEAD offsetof(struct message, number)

static const struct share_config {
	char tag[36]; /* padded, not ended */
	uint32_t queues;
} share = { .tag = VM_SHARE_TAG, .queues = 1 };

/* One direction. */
struct line {
	struct vhost *vhost;
	struct loop_source *source;
	int from, to;
	void (*look)(struct message *m);
	struct message message; /* as far as it has come */
	size_t have;
	int fds[VM_FDS_MOST];
	size_t n_fds;
};

struct vhost {
	struct loop *loop;
	int front, guest, back; /* guest: what has come to the front */
	struct loop_source *source;
	struct line of_guest, of_virtiofsd;
	void (*broken)(void *ctx);
	void *ctx;
};

/* --- what is changed --- */

static void of_guest(struct message *m) {
	uint32_t at = m->config.offset, n = m->config.size;
	if (m->request == SET_PROTOCOL_FEATURES)
		m->number &= ~FEATURE_CONFIG;
	if (m->request != GET_CONFIG)
		return;
	m->flags = REPLY;
	/* Without a payload: it can't be had. */
	if (at > sizeof(share) || n > sizeof(share) - at)
		m->size = 0;
	else
		memcpy(m->config.bytes, (const char *)&share + at, n);
}

static void of_virtiofsd(struct message *m) {
	if (m->request == GET_PROTOCOL_FEATURES)
		m->number |= FEATURE_CONFIG;
	else if (m->request == GET_CONFIG)
		m->request = 0; /* nobody has asked it */
}

/* --- messages --- */

static void line_clear(struct line *l) {
	for (size_t i = 0; i < l->n_fds; i++)
		fd_close(l->fds[i]);
	l->have = l->n_fds = 0;
}

static int line_pass(struct line *l) {
	struct message *m = &l->message;
	l->look(m);
	struct iovec iov = { m, HEAD + m->size };
	/* What is answered here goes back. */
	ssize_t n = vm_send_raw(m->request == GET_CONFIG ? l->from : l->to, &iov, 1, l->fds, l->n_fds);
	line_clear(l);
	return n < 0 ? (int)n : (size_t)n < iov.iov_len ? -EPROTO : 0;
}

/* More of a message: virtiofsd writes one in two parts. 1, 0 when there is nothing
 * for now, or a negative errno. */
static int line_read(struct line *l) {
	struct message *m = &l->message;
	size_t want = l->have < HEAD ? HEAD : HEAD + m->size, n_fds;
	struct iovec iov = { (char *)m + l->have, want - l->have };
	ssize_t n = vm_receive_raw(l->from, &iov, 1, l->fds + l->n_fds, VM_FDS_MOST - l->n_fds, &n_fds);
	if (n <= 0)
		return n == 0 ? -EPIPE : n == -EAGAIN ? 0 : (int)n;
	l->n_fds += n_fds;
	l->have += (size_t)n;
	if (l->have < HEAD)
		return 1;
	if (m->size > PAYLOAD_MAX)
		return -EPROTO;
	int r = l->have == HEAD + m->size ? line_pass(l) : 0;
	return r < 0 ? r : 1;
}

static void broken(struct vhost *v) {
	loop_source_free_p(&v->of_guest.source);
	loop_source_free_p(&v->of_virtiofsd.source);
	v->broken(v->ctx);
}

static void line_ready(void *ctx, uint32_t events) {
	struct line *l = ctx;
	int r;
	while ((r = line_read(l)) > 0)
		;
	/* A side that has hung up has ended, which says why. */
	if (r == -EPIPE)
		loop_source_free_p(&l->source);
	else if (r < 0)
		broken(l->vhost);
}

/* --- life --- */

static int line_open(struct vhost *v, struct line *l, int from, int to, void (*look)(struct message *m)) {
	*l = (struct line){ .vhost = v, .from = from, .to = to, .look = look };
	return loop_poll(v->loop, from, POLLIN, line_ready, l, &l->source);
}

/* There is one connection. */
static void front_comes(void *ctx, uint32_t events) {
	struct vhost *v = ctx;
	v->guest = accept4(v->front, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	loop_source_free_p(&v->source);
	fd_replace(&v->front, -1);
	if (v->guest < 0 || line_open(v, &v->of_guest, v->guest, v->back, of_guest) < 0 ||
	    line_open(v, &v->of_virtiofsd, v->back, v->guest, of_virtiofsd) < 0)
		broken(v);
}

int vhost_new(struct loop *loop, int front, int back, void (*broken_fn)(void *ctx), void *ctx,
	      struct vhost **ret_vhost) {
	struct vhost *v = calloc(1, sizeof(*v));
	if (!v) {
		fd_close(front);
		fd_close(back);
		return -ENOMEM;
	}
	*v = (struct vhost){ .loop = loop, .front = front, .guest = -1, .back = back, .broken = broken_fn, .ctx = ctx };
	int r = loop_poll(loop, front, POLLIN, front_comes, v, &v->source);
	if (r < 0)
		vhost_free(v);
	else
		*ret_vhost = v;
	return r;
}

void vhost_free(struct vhost *v) {
	if (!v)
		return;
	loop_source_free(v->source);
	for (struct line **l = (struct line *[]){ &v->of_guest, &v->of_virtiofsd, NULL }; *l; l++) {
		loop_source_free((*l)->source);
		line_clear(*l);
	}
	fd_close(v->front);
	fd_close(v->guest);
	fd_close(v->back);
	free(v);
}
