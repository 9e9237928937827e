#include "workers/api/serial.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <poll.h>

#define LOOK_AGAIN (20 * NS_PER_MS)

struct serial {
	struct loop *loop;
	struct server *server;
	int fd;
	struct loop_source *timer;
};

static void look_later(void *ctx);

/* The session has a duplicate: it ends by closing its own. */
static int serve(struct serial *s) {
	int fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : server_serve(s->server, fd, look_later, s);
}

static void look(void *ctx) {
	struct serial *s = ctx;
	loop_source_free_p(&s->timer);
	struct pollfd p = { .fd = s->fd, .events = POLLIN };
	int r = poll(&p, 1, 0) < 0 ? -errno : 0;
	if (r == 0 && !(p.revents & (POLLHUP | POLLERR)))
		r = serve(s);
	else
		look_later(s);
	if (r < 0) {
		log_text(LOG_ERROR, "serve the serial line: %s", strerrordesc_np(-r));
		look_later(s);
	}
}

static void look_later(void *ctx) {
	struct serial *s = ctx;
	if (!s->timer && loop_timer(s->loop, clock_mono() + LOOK_AGAIN, look, s, &s->timer) < 0)
		log_text(LOG_ERROR, "the serial line is served no more: out of memory");
}

int serial_new(struct loop *loop, struct server *server, int fd_taken, struct serial **ret_serial) {
	int fd CLEANUP_FD = fd_taken;
	struct serial *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct serial){ .loop = loop, .server = server, .fd = take_fd(&fd) };
	int r = loop_timer(loop, clock_mono(), look, s, &s->timer);
	if (r < 0) {
		serial_free(s);
		return r;
	}
	*ret_serial = s;
	return 0;
}

void serial_free(struct serial *s) {
	if (!s)
		return;
	loop_source_free(s->timer);
	fd_close(s->fd);
	free(s);
}
