/*
 * The stream worker: serves the URLs that Exec, Attach and PortForward answer
 * with. It reads what clients send, and so holds nothing but their connections
 * and the descriptors of their sessions; whatever else it wants it asks the
 * metadata worker for. What its row of the privilege table must grant: a
 * listening socket, open descriptors, and a terminal's size.
 */
#include "workers/stream/stream.h"

#include "base/fd.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TO_STREAM(name) HANDLER_DEFINE(struct streamer, name)
#include "msg/receivers.def"

static const struct link_handler handlers[] = {
#define TO_STREAM(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};

static int stream_prepare(struct worker *w) {
	struct streamer *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->worker = w;
	map_init(&s->tickets);
	list_init(&s->ticket_order);
	list_init(&s->conns);
	w->state = s;
	/* A process that doesn't read its input is no reason to die. */
	signal(SIGPIPE, SIG_IGN);
	return 0;
}

static int stream_serve(struct worker *w) {
	struct streamer *s = w->state;
	s->loop = w->loop;
	s->metadata = worker_link(w, ROLE_METADATA, 0);
	return 0;
}

/* --- the listener --- */

/* Where a client on this machine reaches it. */
static int address_learn(struct streamer *s, int fd) {
	struct sockaddr_storage a;
	socklen_t size = sizeof(a);
	char text[INET6_ADDRSTRLEN];
	if (getsockname(fd, (struct sockaddr *)&a, &size) < 0)
		return -errno;
	if (a.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&a;
		bool any = in->sin_addr.s_addr == htonl(INADDR_ANY);
		inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
		snprintf(s->address, sizeof(s->address), "%s:%u", any ? "127.0.0.1" : text, ntohs(in->sin_port));
	} else {
		const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)&a;
		bool any = IN6_IS_ADDR_UNSPECIFIED(&in->sin6_addr);
		inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
		snprintf(s->address, sizeof(s->address), "[%s]:%u", any ? "::1" : text, ntohs(in->sin6_port));
	}
	return 0;
}

static void accepted(void *ctx, int fd) {
	struct streamer *s = ctx;
	if (fd >= 0) {
		conn_accepted(s, fd);
		return;
	}
	/* The supervisor has the socket still, and gives it to a successor. */
	log_event(LOG_ERROR, "no more connections can be accepted", "why", strerrordesc_np(-fd), NULL);
	worker_exit(s->worker, 1);
}

static void stream_listener(struct worker *w, unsigned index, int fd) {
	struct streamer *s = w->state;
	int r = address_learn(s, fd);
	if (r == 0)
		r = loop_accept(s->loop, fd, accepted, s, &s->accepting);
	if (r < 0) {
		log_event(LOG_ERROR, "streaming can't be served", "why", strerrordesc_np(-r), NULL);
		fd_close(fd);
		s->address[0] = '\0';
	}
}

static const enum role peers[] = { ROLE_METADATA, ROLE_SUPERVISOR };

static const struct worker_class class = {
	.role = ROLE_STREAM,
	.peers = peers,
	.handlers = handlers,
	.prepare = stream_prepare,
	.serve = stream_serve,
	.listener = stream_listener,
};

int main(int argc, char **argv) {
	return worker_main(&class, argc, argv);
}
