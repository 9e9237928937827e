/* See feed.h. Reading ahead is asked for in good time, so that splice seldom
 * waits for the disk. */
#include "feed.h"

#include "base/fd.h"

#include <fcntl.h>
#include <poll.h>

#define STEP (256 * 1024)
#define AHEAD (4 * 1024 * 1024)

struct feed {
	struct feed_options options;
	int file;
	uint64_t offset, end, asked;
	struct loop_source *room;
};

void feed_free(struct feed *f) {
	if (!f)
		return;
	loop_source_free(f->room);
	fd_close(f->file);
	fd_close(f->options.pipe);
	free(f);
}

int feed_new(const struct feed_options *options, struct feed **ret_feed, struct fault *fault) {
	struct feed *f = calloc(1, sizeof(*f));
	if (!f) {
		fd_close(options->pipe);
		return fault_errno(fault, ENOMEM, "feed the pipe");
	}
	f->options = *options;
	f->file = fcntl(options->file, F_DUPFD_CLOEXEC, 3);
	if (f->file < 0 || fcntl(f->options.pipe, F_SETFL, O_NONBLOCK) < 0) {
		int err = errno;
		feed_free(f);
		return fault_errno(fault, err, "feed the pipe");
	}
	*ret_feed = f;
	return 0;
}

static void end(struct feed *f, const struct fault *fault) {
	loop_source_free_p(&f->room);
	f->options.done(f->options.ctx, fault);
}

static void pump(struct feed *f);

static void on_room(void *ctx, uint32_t events) {
	pump(ctx);
}

static void wait_for_room(struct feed *f) {
	struct fault fault;
	if (f->room)
		return;
	int r = loop_poll(f->options.loop, f->options.pipe, POLLOUT, on_room, f, &f->room);
	if (r < 0) {
		f->room = NULL;
		fault_errno(&fault, r, "feed the pipe");
		end(f, &fault);
	}
}

static void read_ahead(struct feed *f) {
	if (f->asked > f->offset + AHEAD / 2)
		return;
	posix_fadvise(f->file, (off_t)f->offset, AHEAD, POSIX_FADV_WILLNEED);
	f->asked = f->offset + AHEAD;
}

static void pump(struct feed *f) {
	struct fault fault;
	while (f->offset < f->end) {
		off64_t at = (off64_t)f->offset;
		read_ahead(f);
		ssize_t n = splice(f->file, &at, f->options.pipe, NULL, (size_t)MIN(f->end - f->offset, (uint64_t)STEP),
				   SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EAGAIN) {
			wait_for_room(f);
			return;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n < 0 && errno == EPIPE)
				fault_set(&fault, FAULT_ABORTED,
					  "nobody unpacks it any more (after %llu of %llu bytes)",
					  (unsigned long long)f->offset, (unsigned long long)f->options.size);
			else
				fault_errno(&fault, n < 0 ? errno : EIO, "feed the pipe");
			end(f, &fault);
			return;
		}
		f->offset += (uint64_t)n;
	}
	if (f->offset == f->options.size)
		end(f, NULL);
}

void feed_to(struct feed *f, uint64_t to) {
	f->end = to;
	pump(f);
}
