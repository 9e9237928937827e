/*
 * The vault: every descriptor that a successor needs, as packets waiting in a
 * socket's queue. The keeper writes to one end and keeps the other too, which
 * the task worker has a duplicate of and never reads: descriptors in flight
 * stay open when the keeper is killed, and holding them costs the task worker
 * one descriptor per pod and no work.
 *
 * The queue is finite, so it is rewritten when half of it is used: first all
 * that is current, then the old packets are taken out of the front. Whoever
 * reads it sees each thing at least once and takes the last word on each.
 */
#include "workers/keeper/exec.h"
#include "workers/keeper/vault.h"
#include "workers/keeper/vm/vm.h"

#include "base/fd.h"
#include "base/log.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define COMPACT_AFTER 64

int vault_init(struct keeper *k) {
	int size = 1024 * 1024;
	k->vault[0] = k->vault[1] = -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, k->vault) < 0)
		return -errno;
	/* A larger queue where it's permitted; the usual one holds 200 packets. */
	setsockopt(k->vault[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	return 0;
}

static int packet_send(int fd, const struct vault_packet *p, const int *fds, size_t n) {
	union {
		char space[CMSG_SPACE(sizeof(int) * VAULT_FDS_MAX)];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)p, sizeof(*p) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	}
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int vault_take(int fd, struct vault_packet *ret_packet, int ret_fds[VAULT_FDS_MAX]) {
	union {
		char space[CMSG_SPACE(sizeof(int) * VAULT_FDS_MAX)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { ret_packet, sizeof(*ret_packet) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	int got[VAULT_FDS_MAX];
	size_t n_got = 0, used = 0;
	for (size_t i = 0; i < VAULT_FDS_MAX; i++)
		ret_fds[i] = -1;
	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EWOULDBLOCK ? 0 : -errno;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		n_got = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(got, CMSG_DATA(c), n_got * sizeof(int));
	}
	for (size_t i = 0; n == sizeof(*ret_packet) && i < VAULT_FDS_MAX; i++)
		if (ret_packet->mask >> i & 1 && used < n_got)
			ret_fds[i] = got[used++];
	for (; used < n_got; used++)
		fd_close(got[used]);
	if (n == 0)
		return 0;
	ret_packet->id[sizeof(ret_packet->id) - 1] = '\0';
	return n == sizeof(*ret_packet) ? 1 : -EBADMSG;
}

static int put(struct keeper *k, enum vault_kind kind, const char *id, const int *fds) {
	struct vault_packet p = { .kind = kind };
	int list[VAULT_FDS_MAX];
	size_t n = 0;
	strncpy(p.id, id, sizeof(p.id) - 1);
	for (size_t i = 0; fds && i < VAULT_FDS_MAX; i++)
		if (fds[i] >= 0) {
			p.mask |= 1U << i;
			list[n++] = fds[i];
		}
	k->vault_used++;
	return packet_send(k->vault[0], &p, list, n);
}

/* Takes n packets out of the front. */
static void forget(struct keeper *k, unsigned n) {
	struct vault_packet p = { 0 };
	int fds[VAULT_FDS_MAX];
	while (n-- > 0 && vault_take(k->vault[1], &p, fds) == 1)
		for (size_t i = 0; i < VAULT_FDS_MAX; i++)
			fd_close(fds[i]);
}

void vault_renew(struct keeper *k) {
	unsigned old = k->vault_used;
	k->vault_used = 0;
	vault_put_pod(k);
	list_for_each (n, &k->containers) {
		struct container *c = list_entry(n, struct container, node);
		if (c->state == CONTAINER_CREATING)
			continue;
		container_vault(c);
		list_for_each (x, &c->execs) {
			const struct exec *e = list_entry(x, struct exec, node);
			if (e->name && named_kept(e))
				named_vault(e);
		}
	}
	forget(k, old);
}

void vault_put(struct keeper *k, enum vault_kind kind, const char *id, const int fds[VAULT_FDS_MAX]) {
	if (k->vault[0] < 0)
		return;
	int r = put(k, kind, id, fds);
	if (r < 0)
		log_event(LOG_WARN, "a descriptor can't be kept for a successor", "pod", k->id, "why",
			  strerrordesc_np(-r), NULL);
	/* Growing with what is live, so that it isn't done at each step. */
	unsigned live = 1;
	list_for_each (n, &k->containers)
		live++;
	if (kind == VAULT_GONE && k->vault_used > COMPACT_AFTER + 2 * live)
		vault_renew(k);
}

void vault_put_pod(struct keeper *k) {
	const struct pod *p = &k->pod;
	int fds[VAULT_FDS_MAX] = { -1, -1, -1, p->shm, p->init, p->host.netns, -1, -1, -1, -1, -1, -1 };
	static const char *const paths[] = { "/proc/self/ns/net", "/proc/self/ns/ipc", "/proc/self/ns/uts" };
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		fds[i] = open(paths[i], O_RDONLY | O_CLOEXEC);
	if (p->vm) {
		fds[VAULT_VM] = p->vm->control;
		fds[VAULT_VM + 1] = p->vm->mounts;
		fds[VAULT_VM + 2] = p->vm->pidfd;
	}
	vault_put(k, VAULT_POD, k->id, fds);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		fd_close(fds[i]);
}

void on_keeper_vault(struct keeper *k, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	keeper_vault_reply(r, &reply, &k->vault[1], 1);
}
