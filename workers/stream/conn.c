/*
 * A client's connection: the head of its one request, the answer, then the
 * carrier's bytes in both directions.
 *
 * Back-pressure: out holds at most what one event adds to OUTPUT_MAX, since
 * sessions ask conn_room before they read for the client; while it holds more,
 * nothing is read from the client either. An idle connection holds no buffer.
 */
#include "workers/stream/stream.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define READS_PER_TURN 16
#define HEAD_TIME (10 * NS_PER_SEC)
/* How long a client may take to read the rest and to close. */
#define FINISH_TIME (10 * NS_PER_SEC)

static uint8_t receive_buffer[16384];

/* --- the end --- */

static void conn_free(struct conn *c) {
	list_unlink(&c->node);
	c->server->n_conns--;
	loop_source_free(c->source);
	loop_source_free(c->again);
	loop_source_free(c->timer);
	loop_source_free(c->room_again);
	loop_source_free(c->burial);
	carrier_free(c);
	buffer_deinit(&c->head);
	buffer_deinit(&c->out);
	fd_close(c->fd);
	free(c);
}

/* Nobody's code is on the stack now. */
static void bury(void *ctx) {
	struct conn *c = ctx;
	loop_source_free_p(&c->burial);
	if (c->session)
		c->class->free(take_ptr(c->session));
	if (c->state == CONN_DEAD)
		conn_free(c);
}

static void bury_later(struct conn *c) {
	if (!c->burial && loop_defer(c->server->loop, bury, c, &c->burial) < 0)
		worker_exit(c->server->worker, 1); /* out of memory for a few bytes */
}

static void die(struct conn *c) {
	if (c->state == CONN_DEAD)
		return;
	c->state = CONN_DEAD;
	carrier_stop(c);
	loop_source_free_p(&c->source);
	loop_source_free_p(&c->again);
	loop_source_free_p(&c->timer);
	bury_later(c);
}

void conn_fail(struct conn *c, const char *why) {
	if (c->state != CONN_DEAD)
		log_event(LOG_DEBUG, "stream connection ends", "why", why, NULL);
	die(c);
}

static void finish_late(void *ctx) {
	conn_fail(ctx, "the client doesn't take the rest");
}

static void timer_set(struct conn *c, int64_t deadline, loop_timer_fn fn) {
	loop_source_free_p(&c->timer);
	if (loop_timer(c->server->loop, deadline, fn, c, &c->timer) < 0)
		die(c);
}

void conn_finish(struct conn *c) {
	if (c->state == CONN_FINISHING || c->state == CONN_DEAD)
		return;
	if (c->state == CONN_OPEN)
		carrier_close(c);
	c->state = CONN_FINISHING;
	carrier_stop(c);
	timer_set(c, clock_mono() + FINISH_TIME, finish_late);
	if (c->state == CONN_DEAD)
		return;
	bury_later(c);
	conn_flush(c);
}

/* --- output --- */

static void room_again(void *ctx) {
	struct conn *c = ctx;
	loop_source_free_p(&c->room_again);
	if (c->state == CONN_OPEN && c->session)
		c->class->writable(c->session);
}

/* Not at once: whoever flushes may be in the middle of his reading. */
static void room_tell(struct conn *c) {
	if (!c->starved || c->out.size >= OUTPUT_MAX / 2 || c->state != CONN_OPEN)
		return;
	c->starved = false;
	if (!c->room_again && loop_defer(c->server->loop, room_again, c, &c->room_again) < 0)
		conn_fail(c, "out of memory");
}

void conn_flush(struct conn *c) {
	size_t done = 0;
	while (c->state != CONN_DEAD && done < c->out.size) {
		ssize_t n = send(c->fd, c->out.data + done, c->out.size - done, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			conn_fail(c, strerrordesc_np(errno));
			return;
		}
		done += (size_t)n;
		c->active = clock_mono();
	}
	if (c->out.failed)
		conn_fail(c, "out of memory");
	else if (done == c->out.size)
		buffer_deinit(&c->out);
	else
		buffer_consume(&c->out, done);
	room_tell(c);
	if (c->state == CONN_FINISHING && c->out.size == 0)
		shutdown(c->fd, SHUT_WR);
}

/* --- the request --- */

static void refuse(struct conn *c, int status, const char *why) {
	static const struct {
		int status;
		const char *reason;
	} reasons[] = { { 400, "Bad Request" },
			{ 403, "Forbidden" },
			{ 404, "Not Found" },
			{ 431, "Request Header Fields Too Large" },
			{ 503, "Service Unavailable" } };
	const char *reason = "Internal Server Error";
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (reasons[i].status == status)
			reason = reasons[i].reason;
	buffer_addf(&c->out,
		    "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
		    "Connection: close\r\n\r\n%s\n",
		    status, reason, strlen(why) + 1, why);
	conn_finish(c);
}

static void answer_upgrade(struct conn *c, const struct upgrade *u) {
	buffer_addf(&c->out, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n",
		    u->websocket ? "websocket" : "SPDY/3.1");
	if (u->websocket)
		buffer_addf(&c->out, "Sec-WebSocket-Accept: %s\r\n", u->accept);
	if (u->protocol)
		buffer_addf(&c->out, "%s: %s\r\n",
			    u->websocket ? "Sec-WebSocket-Protocol" : "X-Stream-Protocol-Version", u->protocol);
	buffer_addf(&c->out, "\r\n");
}

static void idle_check(void *ctx) {
	struct conn *c = ctx;
	int64_t limit = c->server->worker->config.stream_idle_timeout_s * NS_PER_SEC;
	int64_t deadline = c->active + limit;
	if (limit > 0 && deadline <= clock_mono()) {
		conn_fail(c, "nothing was said for too long");
		return;
	}
	timer_set(c, limit > 0 ? deadline : clock_mono() + 3600 * NS_PER_SEC, idle_check);
}

static void session_open(struct conn *c, struct ticket *t, const struct upgrade *u) {
	bool forward = t->what->kind == BULKHEAD__STREAM_KIND__STREAM_PORT_FORWARD;
	int r = forward ? forward_new(c, t, u) : remote_new(c, t, u);
	if (r < 0)
		ticket_free(t);
	if (r == 0)
		r = carrier_open(c, u, forward ? FORWARD_STREAMS_MAX : REMOTE_STREAMS_MAX);
	if (r < 0) {
		refuse(c, 503, "out of memory");
		return;
	}
	answer_upgrade(c, u);
	c->state = CONN_OPEN;
	idle_check(c);
	if (c->state == CONN_OPEN)
		(forward ? forward_begin : remote_begin)(c);
	if (c->state == CONN_OPEN)
		conn_flush(c);
}

static void on_request(struct conn *c, char *head, size_t size) {
	struct http_request request;
	struct upgrade u;
	const char *why;
	int r = http_parse(head, size, &request);
	if (r < 0) {
		refuse(c, 400,
		       r == -EOPNOTSUPP ? "a request with a body can't be served" : "that is no HTTP/1.1 request");
		return;
	}
	struct ticket *t = ticket_take(c->server, request.target);
	if (!t) {
		refuse(c, 404, "this URL was used already, or has expired, or never was");
		return;
	}
	bool forward = t->what->kind == BULKHEAD__STREAM_KIND__STREAM_PORT_FORWARD;
	int status = upgrade_choose(&request, forward ? UPGRADE_FORWARD : UPGRADE_REMOTE, &u, &why);
	if (status) {
		ticket_free(t);
		refuse(c, status, why);
		return;
	}
	session_open(c, t, &u);
}

/* --- input --- */

static void feed(struct conn *c, const uint8_t *data, size_t size) {
	int r = carrier_feed(c, data, size);
	if (r < 0 && c->state == CONN_OPEN) {
		/* What it was told of it may still reach it. */
		conn_flush(c);
		conn_fail(c, r == -ENOMEM ? "out of memory" : "the client broke the protocol");
	}
}

static void feed_head(struct conn *c, const uint8_t *data, size_t size) {
	buffer_add(&c->head, data, size);
	if (c->head.failed) {
		conn_fail(c, "out of memory");
		return;
	}
	ssize_t n = http_head_size(c->head.data, c->head.size);
	if (n < 0)
		refuse(c, 431, "the request's head is too long");
	if (n <= 0)
		return;
	CLEANUP_BUFFER struct buffer head = buffer_take(&c->head);
	on_request(c, (char *)head.data, (size_t)n);
	if (c->state == CONN_OPEN && head.size > (size_t)n)
		feed(c, head.data + n, head.size - (size_t)n);
}

/* False when there is nothing more to do for now. */
static bool receive(struct conn *c) {
	if (c->state == CONN_DEAD || c->out.size > 2 * OUTPUT_MAX)
		return false;
	if (c->state == CONN_OPEN && c->n_crowded > 0)
		return false;
	ssize_t n = recv(c->fd, receive_buffer, sizeof(receive_buffer), MSG_DONTWAIT);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return errno == EINTR;
	if (n <= 0) {
		conn_fail(c, n == 0 ? "the client has closed it" : strerrordesc_np(errno));
		return false;
	}
	c->active = clock_mono();
	if (c->state == CONN_HEAD)
		feed_head(c, receive_buffer, (size_t)n);
	else if (c->state == CONN_OPEN)
		feed(c, receive_buffer, (size_t)n);
	return true;
}

static void receive_all(struct conn *c);

static void receive_again(void *ctx) {
	struct conn *c = ctx;
	loop_source_free_p(&c->again);
	receive_all(c);
}

static void receive_all(struct conn *c) {
	int i = 0;
	while (i < READS_PER_TURN && receive(c))
		i++;
	if (c->state != CONN_DEAD && c->out.size > 0)
		conn_flush(c);
	if (i == READS_PER_TURN && c->state != CONN_DEAD && !c->again &&
	    loop_defer(c->server->loop, receive_again, c, &c->again) < 0)
		conn_fail(c, "out of memory");
}

/* Not from within the callback that has made room. */
static void resume(struct conn *c) {
	if (c->state != CONN_DEAD && c->n_crowded == 0 && !c->again &&
	    loop_defer(c->server->loop, receive_again, c, &c->again) < 0)
		conn_fail(c, "out of memory");
}

void conn_balance(struct conn *c, struct flow *f) {
	bool crowded = flow_waiting(f) > (f->crowded ? INPUT_MAX / 2 : INPUT_MAX);
	if (crowded == f->crowded)
		return;
	f->crowded = crowded;
	c->n_crowded += crowded ? 1u : -1u;
	resume(c);
}

void conn_forget(struct conn *c, struct flow *f) {
	if (!f->crowded)
		return;
	f->crowded = false;
	c->n_crowded--;
	resume(c);
}

/* --- the socket --- */

static void ready(void *ctx, uint32_t events) {
	struct conn *c = ctx;
	if ((events & POLLOUT) && c->out.size > 0)
		conn_flush(c);
	/* Both directions are gone: it is over even while we don't read. */
	if (events & (POLLERR | POLLHUP)) {
		conn_fail(c, "the connection is gone");
		return;
	}
	receive_all(c);
}

static void head_late(void *ctx) {
	conn_fail(ctx, "no request came");
}

void conn_accepted(struct streamer *s, int fd) {
	int on = 1;
	struct conn *c = s->n_conns < CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		fd_close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	list_append(&s->conns, &c->node);
	s->n_conns++;
	/* Keystrokes don't wait for each other; a client that is gone without a
	 * word is noticed some day. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	timer_set(c, clock_mono() + HEAD_TIME, head_late);
	if (c->state != CONN_DEAD && loop_poll(s->loop, fd, POLLIN | POLLOUT, ready, c, &c->source) < 0)
		conn_fail(c, "out of memory");
}
