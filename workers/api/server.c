/*
 * Owns the listening sockets and one struct client per connection.
 *
 * Happy path: bytes arrive, the session takes them, and what it wants to say
 * goes out with one send. Replies that become ready elsewhere (an answer of
 * another worker, a timer) mark their client; all marked clients are flushed
 * once at the end of the loop's turn, so answers that came together leave
 * together. What can wait (can_wait in protocol.h) waits COMPANY_PAUSE at most
 * for something to leave with.
 *
 * Back-pressure: at most one send of about SEND_MAX bytes is under way per
 * client. While it is, the session keeps the rest; when even its frames pile
 * up because the client reads nothing, its socket isn't read any more.
 *
 * Failure: a client that breaks the protocol or goes away is freed, which
 * cancels its calls. Nobody is freed from within a call of its session.
 */
#include "workers/api/server.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"

#include <errno.h>
#include <sys/socket.h>

#define LISTENERS_MAX 8
#define CLIENTS_MAX 512
#define STRANGERS_MAX 16 /* of them */
#define ACCEPT_PAUSE (500 * NS_PER_MS)
#define SEND_MAX (256u << 10)
#define COMPANY_PAUSE (5 * NS_PER_MS)
#define PROCESS_BUDGET ((size_t)256 << 20) /* bytes in requests and replies of all clients */

struct server {
	struct server_options options;
	struct budget budget;
	struct listener {
		int fd;
		struct server *server;
		struct loop_source *accept; /* or the timer until it is tried again */
	} listeners[LISTENERS_MAX];
	size_t n_listeners;
	struct list clients, marked;
	size_t n_clients, n_strangers;
	struct loop_source *flush;   /* while somebody is marked */
	struct loop_source *company; /* while somebody's output waits for more */
	bool stopping;
	struct loop_source *grace;
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

struct client {
	struct list node, mark;
	struct server *server;
	void *session;
	int fd;
	struct loop_source *receive, *send;
	bool sending, paused, dead, stranger;
	bool file; /* read and written, not received and sent */
	void (*gone)(void *ctx);
	void *gone_ctx;
};

static void send_done(void *ctx, int result);

static int client_send(struct client *c, struct buffer *out) {
	struct loop *l = c->server->options.loop;
	return c->file ? loop_write(l, c->fd, -1, out, send_done, c, &c->send)
		       : loop_send(l, c->fd, out, send_done, c, &c->send);
}

static void client_free(struct client *c) {
	struct server *s = c->server;
	s->options.protocol->close(c->session);
	loop_source_free(c->receive);
	loop_source_free(c->send);
	fd_close(c->fd);
	list_unlink(&c->mark);
	list_unlink(&c->node);
	s->n_clients--;
	s->n_strangers -= c->stranger;
	free(c);
}

/* --- stopping --- */

/* From the loop itself, so that whoever is told may free the server. */
static void stop_done(void *ctx) {
	struct server *s = ctx;
	loop_source_free_p(&s->grace);
	if (s->stopped)
		s->stopped(s->stopped_ctx);
}

static void stop_check(struct server *s) {
	struct loop_source *now;
	if (!s->stopping || s->n_clients > 0)
		return;
	if (loop_defer(s->options.loop, stop_done, s, &now) < 0)
		return; /* the grace period ends it */
	loop_source_free(s->grace);
	s->grace = now;
}

static void client_end(struct client *c) {
	struct server *s = c->server;
	void (*gone)(void *ctx) = c->gone;
	void *ctx = c->gone_ctx;
	client_free(c);
	stop_check(s);
	if (gone && !s->stopping)
		gone(ctx);
}

/* --- flushing --- */

static void client_push(struct client *c) {
	const struct protocol *protocol = c->server->options.protocol;
	struct buffer out CLEANUP_BUFFER = { 0 };
	if (c->dead || c->sending)
		return;
	if (protocol->output(c->session, &out, SEND_MAX) < 0) {
		c->dead = true;
		return;
	}
	if (out.size == 0) {
		c->dead = protocol->over(c->session);
		return;
	}
	loop_source_free_p(&c->send);
	c->sending = true;
	if (client_send(c, &out) < 0)
		c->dead = true;
}

/* Reading stops while the client lets our frames pile up. */
static void client_pace(struct client *c) {
	bool full = c->sending && c->server->options.protocol->clogged(c->session);
	if (full == c->paused || c->dead)
		return;
	c->paused = full;
	if (full)
		loop_pause(c->receive);
	else if (loop_resume(c->receive) < 0)
		c->dead = true;
}

/* The last thing that any callback does with its client. */
static void client_settle(struct client *c) {
	client_push(c);
	client_pace(c);
	if (c->dead)
		client_end(c);
}

static void send_done(void *ctx, int result) {
	struct client *c = ctx;
	c->sending = false;
	c->dead |= result < 0;
	client_settle(c);
}

static void company_over(void *ctx) {
	struct server *s = ctx;
	loop_source_free_p(&s->company);
	list_for_each_safe (it, &s->clients)
		client_settle(list_entry(it, struct client, node));
}

/* One timer for all clients: what has gone with other output by then leaves it
 * nothing to do, and it need not be taken back. */
static bool client_waits(struct client *c) {
	struct server *s = c->server;
	const struct protocol *protocol = s->options.protocol;
	if (c->dead || !protocol->can_wait || !protocol->can_wait(c->session))
		return false;
	return s->company ||
	       loop_timer(s->options.loop, clock_mono() + COMPANY_PAUSE, company_over, s, &s->company) == 0;
}

static void flush(void *ctx) {
	struct server *s = ctx;
	loop_source_free_p(&s->flush);
	for (struct list *n; (n = list_pop(&s->marked));)
		client_settle(list_entry(n, struct client, mark));
}

static void client_wants_output(void *ctx) {
	struct client *c = ctx;
	struct server *s = c->server;
	if (c->sending || !list_empty(&c->mark))
		return;
	list_append(&s->marked, &c->mark);
	if (s->flush || loop_defer(s->options.loop, flush, s, &s->flush) == 0)
		return;
	/* No memory to come back later. */
	list_unlink(&c->mark);
	client_push(c);
}

/* --- receiving --- */

static void client_received(void *ctx, const uint8_t *data, ssize_t n) {
	struct client *c = ctx;
	if (n <= 0 || c->server->options.protocol->input(c->session, data, (size_t)n) < 0)
		c->dead = true;
	if (!client_waits(c))
		client_settle(c);
}

static int peer_read(int fd, struct credentials *ret_peer) {
	struct ucred cred;
	socklen_t size = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	*ret_peer = (struct credentials){ .pid = cred.pid, .uid = cred.uid, .gid = cred.gid };
	return 0;
}

static int client_new(struct server *s, int fd_taken, const struct credentials *peer, const struct client *like) {
	int fd CLEANUP_FD = fd_taken;
	struct client *c = malloc(sizeof(*c));
	if (!c)
		return -ENOMEM;
	*c = *like;
	const struct protocol *protocol = s->options.protocol;
	const struct protocol_options options = {
		.owner = s->options.owner,
		.wants_output = client_wants_output,
		.ctx = c,
		.budget = &s->budget,
		.peer = *peer,
		.line = c->file,
	};
	int r = protocol->open(&options, &c->session);
	if (r == 0)
		r = (c->file ? loop_read : loop_recv)(s->options.loop, fd, client_received, c, &c->receive);
	if (r < 0) {
		protocol->close(c->session);
		free(c);
		return r;
	}
	c->server = s;
	c->fd = take_fd(&fd);
	list_init(&c->mark);
	list_append(&s->clients, &c->node);
	s->n_clients++;
	s->n_strangers += c->stranger;
	client_settle(c); /* HTTP/2's SETTINGS don't wait for the client's */
	return 0;
}

static int listener_arm(struct listener *l);

static void listener_retry(void *ctx) {
	struct listener *l = ctx;
	loop_source_free_p(&l->accept);
	int r = listener_arm(l);
	if (r < 0)
		log_text(LOG_ERROR, "no more connections are accepted: %s", strerrordesc_np(-r));
}

/* Out of descriptors or memory: connections wait in the listener's queue. */
static void accept_failed(struct listener *l, int error) {
	log_text(LOG_WARN, "accept: %s", strerrordesc_np(-error));
	loop_source_free_p(&l->accept);
	if (loop_timer(l->server->options.loop, clock_mono() + ACCEPT_PAUSE, listener_retry, l, &l->accept) < 0)
		log_text(LOG_ERROR, "no more connections are accepted: %s", strerrordesc_np(-error));
}

static int client_accept(struct server *s, int fd_taken) {
	int fd CLEANUP_FD = fd_taken;
	struct credentials peer;
	int r = peer_read(fd, &peer);
	if (r < 0)
		return r;
	bool stranger = s->options.admits && !s->options.admits(s->options.owner, &peer);
	if (s->n_clients >= CLIENTS_MAX || (stranger && s->n_strangers >= STRANGERS_MAX))
		return -EUSERS;
	return client_new(s, take_fd(&fd), &peer, &(struct client){ .stranger = stranger });
}

int server_serve(struct server *s, int fd_taken, void (*gone)(void *ctx), void *ctx) {
	int fd CLEANUP_FD = fd_taken;
	if (s->stopping)
		return -ESHUTDOWN;
	const struct client like = { .file = true, .gone = gone, .gone_ctx = ctx };
	return client_new(s, take_fd(&fd), &(struct credentials){ 0 }, &like);
}

static void accepted(void *ctx, int fd) {
	struct listener *l = ctx;
	if (fd < 0) {
		accept_failed(l, fd);
		return;
	}
	int r = client_accept(l->server, fd);
	if (r < 0)
		log_text(LOG_WARN, "connection refused: %s",
			 r == -EUSERS ? "too many are open already" : strerrordesc_np(-r));
}

static int listener_arm(struct listener *l) {
	return loop_accept(l->server->options.loop, l->fd, accepted, l, &l->accept);
}

/* --- the server --- */

int server_new(const struct server_options *options, struct server **ret_server) {
	struct server *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->budget.limit = PROCESS_BUDGET;
	list_init(&s->clients);
	list_init(&s->marked);
	*ret_server = s;
	return 0;
}

static void listeners_close(struct server *s) {
	for (size_t i = 0; i < s->n_listeners; i++) {
		loop_source_free(s->listeners[i].accept);
		fd_close(s->listeners[i].fd);
	}
	s->n_listeners = 0;
}

void server_free(struct server *s) {
	if (!s)
		return;
	listeners_close(s);
	list_for_each_safe (it, &s->clients)
		client_free(list_entry(it, struct client, node));
	loop_source_free(s->flush);
	loop_source_free(s->company);
	loop_source_free(s->grace);
	free(s);
}

int server_listen(struct server *s, int fd_taken) {
	int fd CLEANUP_FD = fd_taken;
	if (s->n_listeners == LISTENERS_MAX || s->stopping)
		return -ENOBUFS;
	struct listener *l = &s->listeners[s->n_listeners];
	*l = (struct listener){ .fd = fd, .server = s };
	int r = listener_arm(l);
	if (r < 0)
		return r;
	take_fd(&fd);
	s->n_listeners++;
	return 0;
}

void server_stop(struct server *s, int64_t grace_ns, void (*done)(void *ctx), void *ctx) {
	if (s->stopping)
		return;
	s->stopping = true;
	s->stopped = done;
	s->stopped_ctx = ctx;
	listeners_close(s);
	if (loop_timer(s->options.loop, clock_mono() + grace_ns, stop_done, s, &s->grace) < 0) {
		done(ctx);
		return;
	}
	list_for_each (it, &s->clients)
		s->options.protocol->stop(list_entry(it, struct client, node)->session);
	stop_check(s);
}
