#include "workers/keeper/stdio.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/keeper/outlet.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define READ_SIZE 16384
#define READS_PER_TURN 16
/* How long the rest waits for a client that takes nothing of it. */
#define PATIENCE (2 * NS_PER_SEC)
/* How long a fifo that holds the last of the output waits for its first reader: a short process ends before its client
 * has come to read. */
#define RENDEZVOUS (NS_PER_SEC / 2)
#define RENDEZVOUS_STEP (10 * NS_PER_MS)

struct stdio {
	struct list node; /* in keeper->endings, once the process has ended */
	struct keeper *keeper;
	struct log *log; /* that reads the outputs; NULL: not yet, or no more */
	struct outlet out[LOG_STREAMS];
	int in; /* the client's fifo; -1: none, or at its end */
	bool in_closed;
	struct loop_source *in_ready, *in_again;
	struct outlet to; /* what the process reads */
	bool terminal;
	bool ending;
	int held[1 + LOG_STREAMS]; /* with message->held; -1: none */
	int unread[LOG_STREAMS];   /* writing ends of fifos that hold what nobody has come for yet; -1: none */
	int64_t rendezvous_until, patience_until;
	struct loop_source *patience;
	Bulkhead__Stdio *message;
};

static const char *const names[] = { "stdin", "stdout", "stderr" };

/* --- the end --- */

void stdio_free(struct stdio *s) {
	if (!s)
		return;
	list_unlink(&s->node);
	loop_source_free(s->in_ready);
	loop_source_free(s->in_again);
	loop_source_free(s->patience);
	for (size_t i = 0; i < LOG_STREAMS; i++)
		outlet_close(&s->out[i]);
	outlet_close(&s->to);
	fd_close(s->in);
	for (size_t i = 0; i < LOG_STREAMS; i++)
		fd_close(s->unread[i]);
	for (size_t i = 0; i < ARRAY_SIZE(s->held); i++)
		fd_close(s->held[i]);
	if (s->log)
		log_tap(s->log, NULL, NULL);
	if (s->message)
		bulkhead__stdio__free_unpacked(s->message, NULL);
	free(s);
}

static void end_over(struct stdio *s) {
	struct keeper *k = s->keeper;
	stdio_free(s);
	pod_teardown_continue(k);
}

static bool fifo_holds(int fd) {
	int n = 0;
	return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}

/* With the last end of a fifo goes what is in it, so while nobody else has its reading end, its writing end stays. An
 * output holds both, which hides who else does. */
static int unread_end(const struct outlet *o) {
	char self[32];
	struct stat st;
	if (o->fd < 0 || fstat(o->fd, &st) < 0 || !S_ISFIFO(st.st_mode) || !fifo_holds(o->fd))
		return -1;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", o->fd);
	return open(self, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
}

static bool unread_awaits(int fd) {
	struct pollfd p = { .fd = fd };
	return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) && fifo_holds(fd);
}

static void end_turn(void *ctx);

/* Each stream ends as soon as all of it has been taken; true when all have. */
static bool end_continue(struct stdio *s) {
	bool behind = false, unread = false;
	for (size_t i = 0; i < LOG_STREAMS; i++) {
		if (s->out[i].fd >= 0 && !outlet_behind(&s->out[i])) {
			s->unread[i] = unread_end(&s->out[i]);
			outlet_close(&s->out[i]);
		}
		behind |= outlet_behind(&s->out[i]);
		unread |= s->unread[i] >= 0;
	}
	loop_source_free_p(&s->patience);
	if (!behind && !unread)
		return true;
	int64_t at = unread ? clock_mono() + RENDEZVOUS_STEP : s->patience_until;
	return loop_timer(s->keeper->loop, at, end_turn, s, &s->patience) < 0;
}

static void end_turn(void *ctx) {
	struct stdio *s = ctx;
	int64_t now = clock_mono();
	for (size_t i = 0; i < LOG_STREAMS; i++)
		if (s->unread[i] >= 0 && (now >= s->rendezvous_until || !unread_awaits(s->unread[i])))
			fd_replace(&s->unread[i], -1);
	if (now >= s->patience_until || end_continue(s))
		end_over(s);
}

void stdio_end(struct stdio *s) {
	if (!s)
		return;
	if (s->log)
		log_tap(s->log, NULL, NULL);
	s->log = NULL;
	s->ending = true;
	loop_source_free_p(&s->in_ready);
	loop_source_free_p(&s->in_again);
	fd_replace(&s->in, -1);
	outlet_close(&s->to);
	list_append(&s->keeper->endings, &s->node);
	s->rendezvous_until = clock_mono() + RENDEZVOUS;
	s->patience_until = clock_mono() + PATIENCE;
	if (end_continue(s))
		stdio_free(s);
}

bool stdio_any_ending(const struct keeper *k) {
	return !list_empty(&k->endings);
}

/* --- output --- */

static void output(void *ctx, enum log_stream_kind kind, const void *data, size_t size) {
	struct stdio *s = ctx;
	outlet_feed(&s->out[kind], data, size);
	log_hold(s->log, kind, outlet_behind(&s->out[kind]));
}

static void out_changed(void *ctx) {
	struct stdio *s = ctx;
	if (s->ending) {
		s->patience_until = clock_mono() + PATIENCE;
		if (end_continue(s))
			end_over(s);
		return;
	}
	for (size_t i = 0; s->log && i < LOG_STREAMS; i++)
		log_hold(s->log, (enum log_stream_kind)i, outlet_behind(&s->out[i]));
}

void stdio_outputs(struct stdio *s, struct log *l) {
	s->log = l;
	log_tap(l, output, s);
}

/* --- input --- */

static void in_end(struct stdio *s) {
	loop_source_free_p(&s->in_ready);
	loop_source_free_p(&s->in_again);
	fd_replace(&s->in, -1);
	if (outlet_behind(&s->to) || s->to.fd < 0)
		return;
	outlet_close(&s->to);
	/* Nobody else may hold it, or the process never sees the end. */
	vault_renew(s->keeper);
}

/* Nobody has it open for writing, and nobody will: somebody had, or is through. */
static bool in_left(const struct stdio *s) {
	struct pollfd p = { .fd = s->in };
	return s->in_closed || (poll(&p, 1, 0) == 1 && (p.revents & POLLHUP));
}

/* False when there is nothing more for now. */
static bool in_read(struct stdio *s) {
	char data[READ_SIZE];
	ssize_t n = read(s->in, data, sizeof(data));
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return errno == EINTR;
	if (n == 0 && !in_left(s))
		return false; /* nobody has come yet */
	if (n > 0)
		outlet_feed(&s->to, data, (size_t)n);
	if (n > 0 && s->to.fd >= 0)
		return true;
	in_end(s);
	return false;
}

static void in_continue(void *ctx);

static void in_ready(void *ctx, uint32_t events) {
	struct stdio *s = ctx;
	for (int i = 0; i < READS_PER_TURN; i++)
		if (s->in < 0 || outlet_behind(&s->to) || !in_read(s))
			return;
	if (!s->in_again && loop_defer(s->keeper->loop, in_continue, s, &s->in_again) < 0)
		in_end(s);
}

static void in_continue(void *ctx) {
	struct stdio *s = ctx;
	loop_source_free_p(&s->in_again);
	in_ready(s, POLLIN);
}

static void to_changed(void *ctx) {
	struct stdio *s = ctx;
	if (s->in < 0 || s->to.fd < 0)
		in_end(s);
	else
		in_ready(s, POLLIN);
}

int stdio_input(struct stdio *s, int to, bool terminal, struct fault *fault) {
	s->terminal = terminal;
	int r = outlet_open(&s->to, s->keeper->loop, to, to_changed, s);
	if (r == 0 && s->in >= 0)
		r = loop_poll(s->keeper->loop, s->in, POLLIN, in_ready, s, &s->in_ready);
	/* What came before anybody watched. */
	if (r == 0 && s->in >= 0 && !s->in_again)
		r = loop_defer(s->keeper->loop, in_continue, s, &s->in_again);
	return r < 0 ? fault_errno(fault, r, "read the process's input") : 0;
}

static void held_close_input(struct stdio *s) {
	s->in_closed = true;
	fd_replace(&s->held[0], -1);
	vault_renew(s->keeper);
}

void stdio_close_input(struct stdio *s) {
	if (s->message->held && !s->in_closed)
		held_close_input(s);
	/* A terminal lives as long as its process. */
	if (s->in < 0 || s->in_closed || s->terminal)
		return;
	s->in_closed = true;
	in_ready(s, POLLIN);
}

bool stdio_input_closed(const struct stdio *s) {
	return s->in_closed;
}

/* --- held --- */

bool stdio_is_held(const struct stdio *s) {
	return s && s->message->held;
}

int stdio_hold(struct stdio *s, int stream, int fd, struct fault *fault) {
	fd_replace(&s->held[stream], fd);
	return fcntl(fd, F_SETFL, O_NONBLOCK | (fcntl(fd, F_GETFL) & O_ACCMODE)) < 0
		   ? fault_errno(fault, errno, "hold %s", names[stream])
		   : 0;
}

int stdio_held(const struct stdio *s, int stream) {
	return s->held[stream];
}

/* --- set-up --- */

static Bulkhead__Stdio *message_copy(const Bulkhead__Stdio *m) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	size_t size = bulkhead__stdio__get_packed_size(m);
	if (!buffer_reserve(&b, size + 1))
		return NULL;
	bulkhead__stdio__pack(m, b.data);
	return bulkhead__stdio__unpack(NULL, size, b.data);
}

static int output_open(struct stdio *s, size_t i, int held, struct fault *fault) {
	int fd = held;
	int r = held >= 0
		    ? 0
		    : stdio_open(i ? s->message->stderr : s->message->stdout, STDIO_OUTPUT, names[1 + i], &fd, fault);
	if (r < 0 || fd < 0)
		return r;
	r = outlet_open(&s->out[i], s->keeper->loop, fd, out_changed, s);
	return r < 0 ? fault_errno(fault, r, "watch %s", names[1 + i]) : 0;
}

int stdio_new(struct keeper *k, const char *id, const Bulkhead__Stdio *m, int held[STDIO_FDS], struct stdio **ret_stdio,
	      struct fault *fault) {
	struct stdio *s = calloc(1, sizeof(*s));
	int r = 0;
	if (s) {
		*s = (struct stdio){
			.keeper = k, .in = -1, .to = OUTLET_NONE, .message = message_copy(m), .held = { -1, -1, -1 }
		};
		list_init(&s->node);
		for (size_t i = 0; i < LOG_STREAMS; i++) {
			s->out[i] = (struct outlet)OUTLET_NONE;
			s->unread[i] = -1;
		}
	}
	if (!s || !s->message) {
		stdio_free(s);
		return fault_errno(fault, ENOMEM, "open the process's streams");
	}
	if (m->held) {
		for (int i = 0; held && i < 1 + LOG_STREAMS; i++)
			s->held[i] = take_fd(&held[STDIO_IN + i]);
		*ret_stdio = s;
		return 0;
	}
	s->in = held ? take_fd(&held[STDIO_IN]) : -1;
	/* A program that has what was written so far isn't started again. */
	int logger[LOG_STREAMS] = { -1, -1 };
	if (!held && stdio_is_logger(m->stdout) && (r = stdio_logger(k, id, m->stdout, logger, fault)) < 0) {
		stdio_free(s);
		return r;
	}
	if (!stdio_is_logger(m->stderr))
		fd_replace(&logger[LOG_STDERR], -1);
	r = s->in >= 0
		? 0
		: stdio_open(m->stdin, m->terminal ? STDIO_INPUT_TERMINAL : STDIO_INPUT, names[0], &s->in, fault);
	for (size_t i = 0; (r == 0 || held) && i < LOG_STREAMS; i++)
		r = output_open(s, i, held ? take_fd(&held[STDIO_OUT + i]) : take_fd(&logger[i]), fault);
	for (size_t i = 0; i < LOG_STREAMS; i++)
		fd_close(logger[i]);
	/* What is gone meanwhile costs the stream, not the process. */
	if (r < 0 && !held) {
		stdio_free(s);
		return r;
	}
	*ret_stdio = s;
	return 0;
}

bool stdio_wants(const struct stdio *s, int stream) {
	if (s->message->held)
		return true;
	return stream == 0 ? s->in >= 0 : s->out[stream - 1].fd >= 0;
}

void stdio_fds(const struct stdio *s, int ret_fds[STDIO_FDS]) {
	if (s->message->held) {
		memcpy(ret_fds + STDIO_IN, s->held, sizeof(s->held));
		ret_fds[STDIO_TO] = -1;
		return;
	}
	ret_fds[STDIO_IN] = s->in;
	ret_fds[STDIO_OUT] = s->out[LOG_STDOUT].fd;
	ret_fds[STDIO_ERR] = s->out[LOG_STDERR].fd;
	ret_fds[STDIO_TO] = s->terminal ? -1 : s->to.fd;
}

const Bulkhead__Stdio *stdio_message(const struct stdio *s) {
	return s->message;
}
