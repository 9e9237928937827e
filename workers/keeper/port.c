/*
 * Connections to a pod's own ports. The keeper lives in the pod's network
 * namespace, so a socket that it makes is one of the pod's; who gets it needs
 * no network at all.
 */
#include "workers/keeper/keeper.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#define PATIENCE (10 * NS_PER_SEC)

/* One request: IPv4's loopback first, then IPv6's. */
struct attempt {
	struct keeper *keeper;
	struct msg_request *request;
	uint32_t port;
	int fd;
	bool second;
	int error; /* of the first */
	struct loop_source *ready, *patience;
};

static void attempt_free(struct attempt *a) {
	loop_source_free(a->ready);
	loop_source_free(a->patience);
	fd_close(a->fd);
	free(a);
}

static void attempt_fail(struct attempt *a, int error) {
	struct fault fault;
	fault_errno(&fault, error, "connect to port %u of pod sandbox \"%.80s\"", a->port, a->keeper->id);
	fault.code = FAULT_UNAVAILABLE;
	a->request->cancelled = NULL;
	msg_fail(a->request, &fault);
	attempt_free(a);
}

static void cancelled(struct msg_request *r, void *ctx) {
	attempt_free(ctx);
	msg_failf(r, FAULT_CANCELLED, "the caller gave up");
}

static void out_of_patience(void *ctx) {
	attempt_fail(ctx, ETIMEDOUT);
}

static void connected(void *ctx, uint32_t events);

static int address_connect(const struct attempt *a, int fd) {
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)a->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)a->port) };
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in6.sin6_addr = in6addr_loopback;
	const void *address = a->second ? (const void *)&in6 : &in;
	return connect(fd, address, a->second ? sizeof(in6) : sizeof(in)) < 0 && errno != EINPROGRESS ? -errno : 0;
}

static int attempt_start(struct attempt *a) {
	loop_source_free_p(&a->ready);
	fd_replace(&a->fd, socket(a->second ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	if (a->fd < 0)
		return -errno;
	int r = address_connect(a, a->fd);
	return r < 0 ? r : loop_poll(a->keeper->loop, a->fd, POLLOUT, connected, a, &a->ready);
}

static void attempt_failed(struct attempt *a, int error) {
	if (!a->second) {
		a->second = true;
		a->error = error;
		if (attempt_start(a) == 0)
			return;
	}
	/* What IPv4 said is what people understand. */
	attempt_fail(a, a->error);
}

static void connected(void *ctx, uint32_t events) {
	struct attempt *a = ctx;
	int error = 0;
	socklen_t size = sizeof(error);
	if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error) {
		attempt_failed(a, error);
		return;
	}
	if (!(events & POLLOUT))
		return;
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	a->request->cancelled = NULL;
	keeper_port_reply(a->request, &reply, &a->fd, 1);
	attempt_free(a);
}

void on_keeper_port(struct keeper *k, struct msg_request *r, const Bulkhead__PortOpenRequest *m) {
	if (!k->pod.up || k->pod.ending) {
		msg_failf(r, FAULT_FAILED_PRECONDITION, "pod sandbox \"%.80s\" is not running", k->id);
		return;
	}
	if (k->pod.vm) {
		msg_failf(r, FAULT_UNIMPLEMENTED,
			  "ports of a pod in a virtual machine are reached by its address alone");
		return;
	}
	if (m->port == 0 || m->port > 65535) {
		msg_failf(r, FAULT_INVALID_ARGUMENT, "%u is no port", m->port);
		return;
	}
	struct attempt *a = calloc(1, sizeof(*a));
	if (!a) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "connect to port %u: out of memory", m->port);
		return;
	}
	*a = (struct attempt){ .keeper = k, .request = r, .port = m->port, .fd = -1 };
	r->cancelled = cancelled;
	r->cancelled_ctx = a;
	int e = loop_timer(k->loop, clock_mono() + PATIENCE, out_of_patience, a, &a->patience);
	if (e < 0) {
		attempt_fail(a, e);
		return;
	}
	e = attempt_start(a);
	if (e < 0)
		attempt_failed(a, -e);
}
