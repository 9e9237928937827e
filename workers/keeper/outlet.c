#include "workers/keeper/outlet.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#define PENDING_MAX (4 * 1024 * 1024)

/* What was written, or -1 when nobody reads it any more. */
static ssize_t write_some(const struct outlet *o, const void *data, size_t size) {
	ssize_t n;
	do
		n = write(o->fd, data, size);
	while (n < 0 && errno == EINTR);
	return n >= 0 ? n : errno == EAGAIN ? 0 : -1;
}

static void ready(void *ctx, uint32_t events) {
	struct outlet *o = ctx;
	ssize_t n = 0;
	if (events & POLLERR)
		n = -1;
	else if (outlet_behind(o))
		n = write_some(o, o->pending.data, o->pending.size);
	if (n < 0)
		outlet_close(o);
	else if (n > 0)
		buffer_consume(&o->pending, (size_t)n);
	if (n > 0 && !outlet_behind(o))
		buffer_deinit(&o->pending);
	if (n != 0)
		o->changed(o->ctx);
}

int outlet_open(struct outlet *o, struct loop *loop, int fd, void (*changed)(void *ctx), void *ctx) {
	struct stat st;
	*o = (struct outlet){ .loop = loop, .fd = fd, .changed = changed, .ctx = ctx };
	int flags = fcntl(fd, F_GETFL);
	int r = flags < 0 || fstat(fd, &st) < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
	/* A regular file takes everything at once, or never. */
	if (r == 0 && !S_ISREG(st.st_mode))
		r = loop_poll(loop, fd, POLLOUT, ready, o, &o->ready);
	if (r < 0)
		outlet_close(o);
	return r;
}

void outlet_close(struct outlet *o) {
	loop_source_free_p(&o->ready);
	fd_replace(&o->fd, -1);
	buffer_deinit(&o->pending);
}

void outlet_feed(struct outlet *o, const void *data, size_t size) {
	if (o->fd < 0)
		return;
	ssize_t n = outlet_behind(o) ? 0 : write_some(o, data, size);
	if (n < 0 && !o->ready)
		return; /* a full disk loses what it can't take */
	if (n < 0 || o->pending.size + size > PENDING_MAX) {
		outlet_close(o);
		return;
	}
	if ((size_t)n == size || !o->ready)
		return;
	buffer_add(&o->pending, (const char *)data + n, size - (size_t)n);
	if (o->pending.failed)
		outlet_close(o);
}
