/* Making connections: in a file of its own, so that the supervisor gets this
 * and nothing of what reads messages. */
#include "base/fd.h"
#include "msg/msg.h"
#include "ring/ring.h"

#include <fcntl.h>
#include <sys/eventfd.h>

int link_ends_new(struct link_ends *ret_a, struct link_ends *ret_b) {
	struct link_ends a = { -1, -1, -1, -1, -1 }, b = a;
	int side[2] = { -1, -1 };
	int r = ring_memory_new(&a.tx_ring, &b.rx_ring);
	if (r == 0)
		r = ring_memory_new(&b.tx_ring, &a.rx_ring);
	if (r == 0 && ((a.rx_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
		       (b.tx_event = fcntl(a.rx_event, F_DUPFD_CLOEXEC, 0)) < 0 ||
		       (b.rx_event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0 ||
		       (a.tx_event = fcntl(b.rx_event, F_DUPFD_CLOEXEC, 0)) < 0 ||
		       socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, side) < 0))
		r = -errno;
	a.side = side[0];
	b.side = side[1];
	if (r < 0) {
		link_ends_close(&a);
		link_ends_close(&b);
		return r;
	}
	*ret_a = a;
	*ret_b = b;
	return 0;
}

void link_ends_close(struct link_ends *e) {
	fd_replace(&e->rx_ring, -1);
	fd_replace(&e->tx_ring, -1);
	fd_replace(&e->rx_event, -1);
	fd_replace(&e->tx_event, -1);
	fd_replace(&e->side, -1);
}
