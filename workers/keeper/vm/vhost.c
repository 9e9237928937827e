/*
 * Between user-mode Linux and virtiofsd: messages of vhost-user, which pass as they
 * are, with their descriptors; what the guest reads and writes doesn't come by here.
 * But for the device's configuration: QEMU knows that itself, so its virtiofsd
 * doesn't offer it. User-mode Linux asks for it, and the guest finds the share by
 * the tag that is in it.
 *
 * Wire facts: docs/interop/vhost-user.rst of QEMU; struct virtio_fs_config of Linux.
 */
#include "workers/keeper/vm/relay.h"

#include "base/fd.h"

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
	struct relay *relay;
	struct loop_source *source;
	int from, to;
	void (*look)(struct message *m);
	struct message message; /* as far as it has come */
	size_t have;
	int fds[VM_FDS_MOST];
	size_t n_fds;
};

struct vhost {
	struct line of_guest, of_virtiofsd;
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

static int line_pass(struct line *l) {
	struct message *m = &l->message;
	l->look(m);
	struct iovec iov = { m, HEAD + m->size };
	/* What is answered here goes back. */
	ssize_t n = vm_send_raw(m->request == GET_CONFIG ? l->from : l->to, &iov, 1, l->fds, l->n_fds);
	for (size_t i = 0; i < l->n_fds; i++)
		fd_close(l->fds[i]);
	l->have = l->n_fds = 0;
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

static void line_ready(void *ctx, uint32_t events) {
	struct line *l = ctx;
	int r;
	while ((r = line_read(l)) > 0)
		;
	/* A side that has hung up has ended, which says why. */
	if (r == -EPIPE)
		loop_source_free_p(&l->source);
	else if (r < 0)
		relay_over(l->relay, "what is said between the virtual machine and virtiofsd makes no sense");
}

/* --- birth --- */

static int line_open(struct relay *r, struct line *l, int from, int to, void (*look)(struct message *m)) {
	l->relay = r;
	l->from = from;
	l->to = to;
	l->look = look;
	return loop_poll(r->loop, from, POLLIN, line_ready, l, &l->source);
}

/* There is one connection. */
static void front_comes(void *ctx, uint32_t events) {
	struct relay *r = ctx;
	struct vhost *v = calloc(1, sizeof(*v));
	int fd = accept4(r->machine.front, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	loop_source_free_p(&r->front_source);
	if (!v || fd < 0 || line_open(r, &v->of_guest, fd, r->machine.back, of_guest) < 0 ||
	    line_open(r, &v->of_virtiofsd, r->machine.back, fd, of_virtiofsd) < 0)
		relay_over(r, "what is said to virtiofsd can't be passed on");
	fd_replace(&r->machine.front, -1);
}

int relay_vhost(struct relay *r) {
	return r->machine.front < 0 ? 0
				    : loop_poll(r->loop, r->machine.front, POLLIN, front_comes, r, &r->front_source);
}
