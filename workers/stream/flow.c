#include "workers/stream/flow.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>

#define READS_PER_TURN 16

static uint8_t read_buffer[16384];

/* --- reading --- */

/* False when there is nothing more to do for now. */
static bool read_once(struct flow *f) {
	size_t room = MIN(f->events->room(f->ctx, f), sizeof(read_buffer));
	if (f->fd < 0 || !f->reads || f->read_ended || room == 0)
		return false;
	ssize_t n = read(f->fd, read_buffer, room);
	if (n < 0 && errno == EINTR)
		return true;
	f->empty = n < 0 && errno == EAGAIN;
	if (f->empty)
		return false;
	if (n <= 0) {
		/* The end; EIO from a terminal that nobody has open; a connection
		 * that broke. */
		f->read_ended = true;
		f->events->ended(f->ctx, f);
		return false;
	}
	f->events->data(f->ctx, f, read_buffer, (size_t)n);
	return true;
}

static void pull_again(void *ctx) {
	struct flow *f = ctx;
	loop_source_free_p(&f->again);
	flow_pull(f);
}

void flow_pull(struct flow *f) {
	for (int i = 0; i < READS_PER_TURN; i++)
		if (!read_once(f))
			return;
	if (!f->again && loop_defer(f->loop, pull_again, f, &f->again) < 0)
		f->again = NULL;
}

/* --- writing --- */

static void finish_now(struct flow *f) {
	f->finished = true;
	if (f->socket) {
		shutdown(f->fd, SHUT_WR);
	} else if (!f->reads) {
		loop_source_free_p(&f->source);
		fd_replace(&f->fd, -1);
	}
}

/* Writes what can be; the rest stays. */
static size_t write_some(struct flow *f, const uint8_t *data, size_t size) {
	size_t done = 0;
	while (done < size) {
		ssize_t n = write(f->fd, data + done, size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return done;
		/* Nobody reads it any more: it goes nowhere, as with a closed pipe. */
		if (n <= 0) {
			f->finished = true;
			return size;
		}
		done += (size_t)n;
	}
	return done;
}

void flow_write(struct flow *f, const void *data, size_t size) {
	size_t done = f->waits ? 0 : size;
	if (f->fd >= 0 && f->writes && !f->finished)
		done = f->pending.size ? 0 : write_some(f, data, size);
	if (done < size)
		buffer_add(&f->pending, (const uint8_t *)data + done, size - done);
	/* Out of memory: what the client sent is lost, so the rest has no meaning. */
	if (f->pending.failed) {
		buffer_deinit(&f->pending);
		f->finished = true;
		done = size;
	}
	if (done > 0)
		f->events->written(f->ctx, f, done);
}

static void flush(struct flow *f) {
	if (f->fd < 0 || f->pending.size == 0)
		return;
	size_t done = write_some(f, f->pending.data, f->pending.size);
	if (done == f->pending.size)
		buffer_deinit(&f->pending); /* an idle session holds no memory */
	else
		buffer_consume(&f->pending, done);
	if (done > 0)
		f->events->written(f->ctx, f, done);
	if (f->finishing && f->pending.size == 0 && !f->finished)
		finish_now(f);
}

void flow_finish(struct flow *f) {
	f->finishing = true;
	if (f->fd >= 0 && f->pending.size == 0 && !f->finished)
		finish_now(f);
}

size_t flow_waiting(const struct flow *f) {
	return f->pending.size;
}

/* --- life --- */

static void ready(void *ctx, uint32_t events) {
	struct flow *f = ctx;
	if (f->writes && (events & (POLLOUT | POLLERR | POLLHUP)))
		flush(f);
	if (f->reads && (events & (POLLIN | POLLERR | POLLHUP)))
		flow_pull(f);
}

void flow_init(struct flow *f, struct loop *loop, const struct flow_events *events, void *ctx) {
	*f = (struct flow){ .loop = loop, .fd = -1, .waits = true, .events = events, .ctx = ctx };
}

int flow_open(struct flow *f, int fd, bool reads, bool writes, bool socket) {
	f->fd = fd;
	f->waits = false;
	f->reads = reads;
	f->writes = writes;
	f->socket = socket;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	int r = loop_poll(f->loop, fd, (reads ? POLLIN : 0) | (writes ? POLLOUT : 0), ready, f, &f->source);
	if (r < 0)
		return r;
	if (!writes)
		flow_discard(f);
	flush(f);
	if (f->finishing && f->pending.size == 0 && !f->finished)
		finish_now(f);
	return 0;
}

void flow_discard(struct flow *f) {
	size_t size = f->pending.size;
	f->waits = false;
	buffer_deinit(&f->pending);
	if (size > 0)
		f->events->written(f->ctx, f, size);
}

void flow_deinit(struct flow *f) {
	loop_source_free_p(&f->source);
	loop_source_free_p(&f->again);
	fd_replace(&f->fd, -1);
	buffer_deinit(&f->pending);
}
