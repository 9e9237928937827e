/*
 * The streaming server's listening socket. The supervisor makes it, so that the
 * port stays the same when the stream worker is replaced, and so that the
 * worker needs no network of its own.
 */
#include "supervisor/folders.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

static int address_parse(const struct config *c, struct sockaddr_storage *ret, socklen_t *ret_size) {
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons((uint16_t)c->stream_port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)c->stream_port) };
	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, c->stream_address, &in.sin_addr) == 1) {
		memcpy(ret, &in, sizeof(in));
		*ret_size = sizeof(in);
		return 0;
	}
	if (inet_pton(AF_INET6, c->stream_address, &in6.sin6_addr) == 1) {
		memcpy(ret, &in6, sizeof(in6));
		*ret_size = sizeof(in6);
		return 0;
	}
	return -EINVAL;
}

int stream_listener_open(const struct config *c, int *ret_fd, struct fault *fault) {
	struct sockaddr_storage address;
	socklen_t size;
	int on = 1;
	if (address_parse(c, &address, &size) < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "stream_address: \"%s\" is no IPv4 or IPv6 address",
				 c->stream_address);
	CLEANUP_FD int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	if (fd < 0)
		return fault_errno(fault, errno, "make a socket");
	/* A predecessor's connections may still be on their way out. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, size) < 0 || listen(fd, 256) < 0)
		return fault_errno(fault, errno, "listen on stream_address %s, stream_port %u", c->stream_address,
				   c->stream_port);
	*ret_fd = take_fd(&fd);
	return 0;
}
