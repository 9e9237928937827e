#include "workers/keeper/log.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define READ_SIZE 16384
#define READS_PER_TURN 16
#define DRAIN_MAX (4 * 1024 * 1024)
#define LINE_MAX_LIMIT 65536
#define IOV_MAX_USED 512
#define HEADER_SIZE 48

/* Shared with a successor; used is written last. */
struct tail {
	uint32_t used;
	char data[];
};

struct stream {
	struct log *log;
	const char *name;
	int fd;
	struct loop_source *ready, *again;
	struct tail *tail;
	bool held;
};

struct log {
	struct loop *loop;
	struct stream streams[LOG_STREAMS];
	int folder, file; /* folder -1: no log */
	char name[NAME_MAX + 1];
	size_t line_max;
	int tail_fd;
	uint8_t *tails;
	size_t tail_size; /* of one stream */
	bool torn;	  /* the file ends in the middle of a line */
	uint64_t lost;
	log_tap_fn tap;
	void *tap_ctx;
};

/* One batch on its way to the file. */
struct batch {
	struct log *log;
	char header[2][HEADER_SIZE]; /* of a full line and of a partial one */
	size_t header_size;
	struct iovec iov[IOV_MAX_USED];
	int n_iov;
	unsigned lines;
};

static char read_buffer[READ_SIZE];

/* --- the file --- */

static void header_make(struct batch *b, const char *stream) {
	struct timespec ts;
	struct tm tm;
	char time[32];
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &tm);
	for (int i = 0; i < 2; i++)
		b->header_size = (size_t)snprintf(b->header[i], HEADER_SIZE, "%s.%09ldZ %s %c ", time, ts.tv_nsec,
						  stream, i ? 'P' : 'F');
}

static void lost(struct log *l, unsigned lines, int error) {
	if (l->lost == 0)
		log_text(LOG_WARN, "container log \"%s\" can't be written, lines are lost: %s", l->name,
			 strerrordesc_np(error));
	l->lost += lines;
}

static void batch_flush(struct batch *b) {
	struct log *l = b->log;
	struct iovec *iov = b->iov;
	int n = b->n_iov;
	unsigned lines = b->lines;
	b->n_iov = 0;
	b->lines = 0;
	if (n == 0 || l->file < 0)
		return;
	if (l->torn && write(l->file, "\n", 1) == 1)
		l->torn = false;
	bool begun = false;
	while (n > 0) {
		ssize_t w = l->torn && !begun ? -1 : writev(l->file, iov, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			l->torn = l->torn || begun;
			lost(l, lines, w < 0 ? errno : ENOSPC);
			return;
		}
		begun = true;
		while (n > 0 && (size_t)w >= iov->iov_len) {
			w -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + w;
			iov->iov_len -= (size_t)w;
		}
	}
	if (l->lost > 0)
		log_text(LOG_WARN, "container log \"%s\" is written again, %llu lines were lost", l->name,
			 (unsigned long long)l->lost);
	l->lost = 0;
}

static void batch_put(struct batch *b, const void *data, size_t size) {
	if (size > 0)
		b->iov[b->n_iov++] = (struct iovec){ (void *)data, size };
}

static void batch_line(struct batch *b, bool partial, const char *tail, size_t tail_size, const char *data,
		       size_t size) {
	if (b->n_iov + 4 > IOV_MAX_USED)
		batch_flush(b);
	batch_put(b, b->header[partial], b->header_size);
	batch_put(b, tail, tail_size);
	batch_put(b, data, size);
	batch_put(b, "\n", 1);
	b->lines++;
}

/* --- lines --- */

/* What follows the last whole line is kept; used is stored after the data, so
 * that a successor never sees more than is there. */
static void tail_keep(struct tail *t, size_t used, const char *data, size_t size) {
	memcpy(t->data + used, data, size);
	__atomic_store_n(&t->used, (uint32_t)(used + size), __ATOMIC_RELEASE);
}

static void stream_take(struct stream *s, const char *data, size_t size) {
	struct log *l = s->log;
	struct batch b;
	if (l->file < 0)
		return;
	size_t tail = s->tail->used;
	b.log = l;
	b.n_iov = 0;
	b.lines = 0;
	header_make(&b, s->name);
	while (size > 0) {
		const char *newline = memchr(data, '\n', size);
		size_t content = newline ? (size_t)(newline - data) : size;
		size_t room = l->line_max - tail;
		if (content > room) {
			batch_line(&b, true, s->tail->data, tail, data, room);
			tail = 0;
			data += room;
			size -= room;
			continue;
		}
		if (!newline)
			break;
		batch_line(&b, false, s->tail->data, tail, data, content);
		tail = 0;
		data += content + 1;
		size -= content + 1;
	}
	batch_flush(&b);
	if (size > 0 || tail != s->tail->used)
		tail_keep(s->tail, tail, data, size);
}

static void stream_close(struct stream *s) {
	loop_source_free_p(&s->ready);
	loop_source_free_p(&s->again);
	fd_replace(&s->fd, -1);
}

static void stream_end(struct stream *s) {
	stream_close(s);
	if (s->tail && s->tail->used > 0 && s->log->file >= 0) {
		struct batch b;
		b.log = s->log;
		b.n_iov = 0;
		b.lines = 0;
		header_make(&b, s->name);
		batch_line(&b, false, s->tail->data, s->tail->used, NULL, 0);
		batch_flush(&b);
		s->tail->used = 0;
	}
}

/* Reads once; false when there is nothing more for now. */
static bool stream_read(struct stream *s, size_t *ret_size) {
	ssize_t n = read(s->fd, read_buffer, sizeof(read_buffer));
	*ret_size = 0;
	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n <= 0) {
		/* The end, or EIO from a terminal that nobody has open. */
		stream_end(s);
		return false;
	}
	*ret_size = (size_t)n;
	stream_take(s, read_buffer, (size_t)n);
	if (s->log->tap)
		s->log->tap(s->log->tap_ctx, (enum log_stream_kind)(s - s->log->streams), read_buffer, (size_t)n);
	return true;
}

static void stream_again(void *ctx);

static void stream_ready(void *ctx, uint32_t events) {
	struct stream *s = ctx;
	size_t n;
	for (int i = 0; i < READS_PER_TURN; i++) {
		if (s->held || !stream_read(s, &n))
			return;
		/* A pipe that gave less than was asked for is empty. Once its
		 * writers are gone there is no further event: read to the end. */
		if (n > 0 && n < sizeof(read_buffer) && !(events & (POLLHUP | POLLERR)))
			return;
	}
	if (!s->again && loop_defer(s->log->loop, stream_again, s, &s->again) < 0)
		stream_end(s);
}

static void stream_again(void *ctx) {
	struct stream *s = ctx;
	loop_source_free_p(&s->again);
	stream_ready(s, POLLIN | POLLHUP);
}

void log_tap(struct log *l, log_tap_fn fn, void *ctx) {
	l->tap = fn;
	l->tap_ctx = ctx;
}

void log_hold(struct log *l, enum log_stream_kind kind, bool hold) {
	struct stream *s = &l->streams[kind];
	bool resumes = s->held && !hold;
	s->held = hold;
	/* Its readiness came and went unheard. */
	if (resumes && s->fd >= 0 && !s->again && loop_defer(l->loop, stream_again, s, &s->again) < 0)
		stream_end(s);
}

void log_drain(struct log *l) {
	for (size_t i = 0; l && i < LOG_STREAMS; i++) {
		struct stream *s = &l->streams[i];
		size_t n, total = 0;
		while (s->fd >= 0 && total < DRAIN_MAX && stream_read(s, &n))
			total += n;
	}
}

/* --- set-up --- */

/* The folders above the file are the client's; what is missing of them is made. */
static int folder_open(struct log *l, const char *path, struct fault *fault) {
	char copy[PATH_MAX];
	if (path[0] != '/' || (size_t)snprintf(copy, sizeof(copy), "%s", path) >= sizeof(copy))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "log path \"%s\" is not an absolute path", path);
	char *slash = strrchr(copy, '/');
	if (!slash[1] || strlen(slash + 1) > NAME_MAX || strcmp(slash + 1, ".") == 0 || strcmp(slash + 1, "..") == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "log path \"%s\" has no file name", path);
	strcpy(l->name, slash + 1);
	*slash = '\0';
	const char *folder = copy[0] ? copy : "/";
	l->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (l->folder < 0 && errno == ENOENT && make_folders(copy) == 0)
		l->folder = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return l->folder < 0 ? fault_errno(fault, errno, "open the log folder \"%s\"", folder) : 0;
}

static int file_open(struct log *l, int *ret_file, struct fault *fault) {
	CLEANUP_FD int fd =
	    openat(l->folder, l->name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0640);
	struct stat st;
	if (fd < 0)
		return fault_errno(fault, errno, "open the log file \"%s\"", l->name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the log file \"%s\" is not a regular file", l->name);
	*ret_file = take_fd(&fd);
	return 0;
}

static int tails_map(struct log *l, int tail, struct fault *fault) {
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	l->tail_size = (sizeof(struct tail) + l->line_max + page - 1) & ~(page - 1);
	l->tail_fd = tail >= 0 ? tail : memfd_create("log", MFD_CLOEXEC);
	if (l->tail_fd < 0 || (tail < 0 && ftruncate(l->tail_fd, (off_t)(LOG_STREAMS * l->tail_size)) < 0))
		return fault_errno(fault, errno, "make room for unfinished log lines");
	l->tails = mmap(NULL, LOG_STREAMS * l->tail_size, PROT_READ | PROT_WRITE, MAP_SHARED, l->tail_fd, 0);
	if (l->tails == MAP_FAILED) {
		l->tails = NULL;
		return fault_errno(fault, errno, "map room for unfinished log lines");
	}
	for (size_t i = 0; i < LOG_STREAMS; i++) {
		struct tail *t = (struct tail *)(l->tails + i * l->tail_size);
		if (tail >= 0 && t->used > l->line_max)
			t->used = 0;
		l->streams[i].tail = t;
	}
	return 0;
}

int log_new(struct loop *loop, const char *path, size_t line_max, int tail, struct log **ret_log, struct fault *fault) {
	static const char *const names[] = { [LOG_STDOUT] = "stdout", [LOG_STDERR] = "stderr" };
	struct log *l = calloc(1, sizeof(*l));
	if (!l) {
		fd_close(tail);
		return fault_errno(fault, ENOMEM, "make a log");
	}
	l->loop = loop;
	l->folder = l->file = -1;
	l->line_max = line_max ? MIN(line_max, (size_t)LINE_MAX_LIMIT) : 16384;
	for (size_t i = 0; i < LOG_STREAMS; i++)
		l->streams[i] = (struct stream){ .log = l, .name = names[i], .fd = -1 };
	l->tail_fd = tail;
	/* What is thrown away has no unfinished lines. */
	int r = path[0] ? tails_map(l, tail, fault) : 0;
	if (r == 0 && path[0])
		r = folder_open(l, path, fault);
	if (r == 0 && path[0])
		r = file_open(l, &l->file, fault);
	if (r < 0) {
		log_free(l);
		return r;
	}
	*ret_log = l;
	return 0;
}

static void log_close(struct log *l) {
	if (l->tails)
		munmap(l->tails, LOG_STREAMS * l->tail_size);
	fd_close(l->tail_fd);
	fd_close(l->file);
	fd_close(l->folder);
	free(l);
}

void log_free(struct log *l) {
	if (!l)
		return;
	for (size_t i = 0; i < LOG_STREAMS; i++)
		stream_end(&l->streams[i]);
	log_close(l);
}

void log_abandon(struct log *l) {
	for (size_t i = 0; i < LOG_STREAMS; i++)
		stream_close(&l->streams[i]);
	log_close(l);
}

int log_attach(struct log *l, enum log_stream_kind kind, int fd) {
	struct stream *s = &l->streams[kind];
	int flags = fcntl(fd, F_GETFL);
	s->fd = fd;
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return loop_poll(l->loop, fd, POLLIN, stream_ready, s, &s->ready);
}

int log_reopen(struct log *l, struct fault *fault) {
	int file;
	if (l->folder < 0)
		return 0;
	int r = file_open(l, &file, fault);
	if (r < 0)
		return r;
	fd_replace(&l->file, file);
	l->torn = false;
	return 0;
}

int log_fd(const struct log *l, enum log_stream_kind kind) {
	return l->streams[kind].fd;
}

int log_tail(const struct log *l) {
	return l->tail_fd;
}

uint64_t log_lost(const struct log *l) {
	return l->lost;
}
