/*
 * Whatever a guest's kernel says to virtiofsd, and virtiofsd to it, by way of
 * vhost.c. The input is a row of pieces: a byte for who speaks (its lowest bit),
 * whether a descriptor comes along (the next), and how many bytes follow (the rest).
 *
 * Invariants beyond the sanitisers': nothing is passed on that hasn't come; no
 * descriptor is lost or stays; an end is told once.
 */
#include "tests/fuzz/fuzz.h"

#include "base/fd.h"
#include "workers/keeper/vm/vhost.h"

#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static struct loop *loop;
static unsigned times_broken;
static int lowest; /* free descriptor, when nothing is open */

static void broken(void *ctx) {
	times_broken++;
}

static void start(void) {
	require(loop_new(NULL, &loop) == 0 && loop_enable(loop, NULL, 0) == 0);
	lowest = dup(0);
	close(lowest);
}

static int listener_make(struct sockaddr_un *address, socklen_t *size) {
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*size = sizeof(sa_family_t);
	/* The kernel finds a name. */
	require(bind(fd, (struct sockaddr *)address, *size) == 0 && listen(fd, 1) == 0);
	*size = sizeof(*address);
	require(getsockname(fd, (struct sockaddr *)address, size) == 0);
	return fd;
}

static size_t say(int socket, const uint8_t *data, size_t size, bool with_fd) {
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (with_fd) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &socket, sizeof(int));
	}
	ssize_t n = sendmsg(socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	for (int i = 0; i < 4; i++)
		loop_turn(loop, 0);
	return n < 0 ? 0 : (size_t)n;
}

/* What has arrived, without its descriptors. */
static size_t arrived(int socket) {
	uint8_t data[8192];
	size_t all = 0;
	for (ssize_t n; (n = recv(socket, data, sizeof(data), MSG_DONTWAIT)) > 0;)
		all += (size_t)n;
	return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	struct sockaddr_un address;
	socklen_t address_size;
	struct vhost *v;
	int pair[2], sides[2];
	size_t said = 0, heard = 0;
	if (!loop)
		start();
	times_broken = 0;
	int listener = listener_make(&address, &address_size);
	sides[0] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(connect(sides[0], (struct sockaddr *)&address, address_size) == 0);
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
	sides[1] = pair[1];
	require(vhost_new(loop, listener, pair[0], broken, NULL, &v) == 0);
	for (int i = 0; i < 4; i++)
		loop_turn(loop, 0);
	for (size_t at = 0; at < size && !times_broken;) {
		uint8_t head = data[at++];
		size_t n = MIN((size_t)head >> 2, size - at);
		said += n ? say(sides[head & 1], data + at, n, head & 2) : 0;
		heard += arrived(sides[0]) + arrived(sides[1]);
		at += n;
	}
	require(times_broken <= 1 && heard <= said);
	vhost_free(v);
	close(sides[0]);
	close(sides[1]);
	for (int i = 0; i < 4; i++)
		loop_turn(loop, 0);
	int next = dup(0);
	require(next == lowest);
	close(next);
	return 0;
}
