#include "workers/api/agent/streams.h"

#include "base/clock.h"
#include "base/fd.h"
#include "msg/typed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#define READ_MAX 65536
/* After a process's end, for what others still write. */
#define CUT_NS (500 * NS_PER_MS)
/* After that, for a client that hasn't come for the rest yet. */
#define IDLE_NS (5 * NS_PER_SEC)

struct agent_streams {
	struct agent_streams *next; /* of the server's */
	struct grpc_server *server;
	char *container_id, *exec_id;
	struct msg_call *asked, *wait;
	bool given, terminal, exited, cut;
	bool forgotten;
	unsigned working; /* within this file: it is freed at the end of that */
	struct list queues[STREAMS];
	struct end {
		struct agent_streams *streams;
		int fd; /* -1: at its end */
		struct loop_source *ready;
		size_t left; /* once cut: what may still be read */
	} ends[STREAMS];
	struct loop_source *timer;
};

static struct agent_stream_call *first_of(struct agent_streams *s, int stream) {
	return list_empty(&s->queues[stream]) ? NULL
					      : list_entry(s->queues[stream].next, struct agent_stream_call, node);
}

/* --- its life --- */

static bool is_waited_for(struct agent_streams *s) {
	bool waited = false;
	for (int i = 0; i < STREAMS; i++)
		waited |= first_of(s, i) != NULL;
	return waited;
}

static void end_close(struct end *e) {
	loop_source_free_p(&e->ready);
	fd_replace(&e->fd, -1);
}

static void unlist(struct agent_streams *s) {
	for (struct agent_streams **at = &s->server->agent_streams; *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			return;
		}
}

static void streams_free(struct agent_streams *s) {
	unlist(s);
	msg_cancel(s->asked);
	msg_cancel(s->wait);
	loop_source_free(s->timer);
	for (int i = 0; i < STREAMS; i++)
		end_close(&s->ends[i]);
	free(s->container_id);
	free(s->exec_id);
	free(s);
}

static void idle(void *ctx);

/* Frees it when nothing more is to be expected. */
static void settle(struct agent_streams *s) {
	if (s->working || is_waited_for(s))
		return;
	bool over = s->exited && s->ends[STREAM_OUT].fd < 0 && s->ends[STREAM_ERR].fd < 0;
	bool late = s->cut && !s->timer;
	if (over || !s->given || s->forgotten ||
	    (late && loop_timer(s->server->loop, clock_mono() + IDLE_NS, idle, s, &s->timer) < 0))
		streams_free(s);
}

static void idle(void *ctx) {
	struct agent_streams *s = ctx;
	loop_source_free_p(&s->timer);
	if (!is_waited_for(s))
		streams_free(s);
}

static void fail_all(struct agent_streams *s, const struct fault *fault) {
	s->working++;
	for (int i = 0; i < STREAMS; i++)
		for (struct agent_stream_call *x; (x = first_of(s, i));)
			grpc_fail(x->call, fault);
	s->working--;
}

/* --- one call's turn; false: it has to wait --- */

static void read_reply(struct agent_stream_call *x, uint8_t *data, size_t size) {
	Grpc__ReadStreamResponse a = GRPC__READ_STREAM_RESPONSE__INIT;
	a.data = (ProtobufCBinaryData){ .data = data, .len = size };
	grpc_reply(x->call, &a.base);
}

static bool read_turn(struct agent_streams *s, int stream) {
	static uint8_t data[READ_MAX];
	struct agent_stream_call *x = first_of(s, stream);
	struct end *e = &s->ends[stream];
	size_t max = MIN(x->len, s->cut ? MIN(e->left, READ_MAX) : READ_MAX);
	ssize_t n;
	do
		n = e->fd < 0 || max == 0 ? 0 : read(e->fd, data, max);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN && !s->cut)
		return false;
	if (n <= 0) /* EIO is a terminal's end */
		end_close(e);
	else if (s->cut)
		e->left -= (size_t)n;
	read_reply(x, data, n > 0 ? (size_t)n : 0);
	return true;
}

static void write_reply(struct agent_stream_call *x) {
	Grpc__WriteStreamResponse a = GRPC__WRITE_STREAM_RESPONSE__INIT;
	a.len = (uint32_t)x->data.size;
	grpc_reply(x->call, &a.base);
}

static void work_all(struct agent_streams *s);

static void input_closed(void *ctx, const struct msg_answer *answer) {
	struct agent_stream_call *x = ctx;
	struct agent_streams *s = x->streams;
	Google__Protobuf__Empty closed = GOOGLE__PROTOBUF__EMPTY__INIT;
	x->asked = NULL;
	s->working++;
	/* What has ended reads no more. */
	if (answer->fault && !(answer->fault->code == FAULT_NOT_FOUND && s->exited))
		grpc_fail(x->call, answer->fault);
	else if (x->writes)
		write_reply(x);
	else
		grpc_reply(x->call, &closed.base);
	s->working--;
	work_all(s);
}

/* A terminal's is the output's, too. */
static bool close_turn(struct agent_streams *s, struct agent_stream_call *x) {
	Bulkhead__CtaskKey key = BULKHEAD__CTASK_KEY__INIT;
	if (x->asked)
		return false;
	if (!s->terminal)
		end_close(&s->ends[STREAM_IN]);
	key.namespace_ = (char *)AGENT_NAMESPACE;
	key.container_id = s->container_id;
	key.exec_id = s->exec_id;
	x->asked =
	    ctask_close_stdin_send(s->server->metadata, grpc_call_context(x->call), &key, NULL, 0, input_closed, x);
	return false;
}

static bool write_turn(struct agent_streams *s) {
	struct agent_stream_call *x = first_of(s, STREAM_IN);
	int fd = s->ends[STREAM_IN].fd;
	if (x->closes)
		return close_turn(s, x);
	while (fd >= 0 && x->sent < x->data.size) {
		ssize_t n = write(fd, x->data.data + x->sent, x->data.size - x->sent);
		if (n > 0)
			x->sent += (size_t)n;
		else if (errno == EAGAIN && !s->exited)
			return false;
		else if (errno != EINTR)
			break;
	}
	if (x->sent == x->data.size)
		write_reply(x);
	else
		grpc_failf(x->call, FAULT_FAILED_PRECONDITION,
			   "container \"%.76s\": nobody reads the input of process \"%.76s\" any more: %zu of %zu "
			   "bytes were written",
			   s->container_id, s->exec_id, x->sent, x->data.size);
	return true;
}

static void work(struct agent_streams *s, int stream) {
	s->working++;
	while (s->given && first_of(s, stream) && (stream == STREAM_IN ? write_turn(s) : read_turn(s, stream)))
		;
	s->working--;
}

static void work_all(struct agent_streams *s) {
	s->working++;
	for (int i = 0; i < STREAMS; i++)
		work(s, i);
	s->working--;
	settle(s);
}

static void ready(void *ctx, uint32_t events) {
	work_all(((struct end *)ctx)->streams);
}

/* --- the end --- */

static void cut(struct agent_streams *s) {
	loop_source_free_p(&s->timer);
	s->cut = true;
	for (int i = STREAM_OUT; i < STREAMS; i++) {
		int room = s->ends[i].fd < 0 ? 0 : fcntl(s->ends[i].fd, F_GETPIPE_SZ);
		s->ends[i].left = room < 0 ? READ_MAX : (size_t)room;
	}
	work_all(s);
}

static void cut_due(void *ctx) {
	cut(ctx);
}

/* It has ended; or it was removed, and nobody can say more. */
static void waited(void *ctx, const struct msg_answer *answer) {
	struct agent_streams *s = ctx;
	s->wait = NULL;
	s->exited = true;
	if (answer->fault || loop_timer(s->server->loop, clock_mono() + CUT_NS, cut_due, s, &s->timer) < 0)
		cut(s);
	else
		work_all(s);
}

/* --- the beginning --- */

static int end_watch(struct agent_streams *s, int stream, uint32_t events) {
	struct end *e = &s->ends[stream];
	return e->fd < 0 ? 0 : loop_poll(s->server->loop, e->fd, events, ready, e, &e->ready);
}

static int ends_take(struct agent_streams *s, const Bulkhead__ProcessStreams *given, int *fds) {
	const bool has[] = { given->stdin, given->stdout, given->stderr };
	for (int i = 0; i < STREAMS; i++)
		s->ends[i].fd = has[i] ? take_fd(&fds[i]) : -1;
	s->terminal = given->terminal;
	if (s->terminal)
		s->ends[STREAM_IN].fd = fcntl(s->ends[STREAM_OUT].fd, F_DUPFD_CLOEXEC, 3);
	int r = end_watch(s, STREAM_IN, POLLOUT);
	if (r == 0)
		r = end_watch(s, STREAM_OUT, POLLIN);
	return r < 0 ? r : end_watch(s, STREAM_ERR, POLLIN);
}

static void wait_begin(struct agent_streams *s, const Bulkhead__CtaskKey *key) {
	struct msg_context context = { 0 };
	s->wait = ctask_wait_send(s->server->metadata, &context, key, NULL, 0, waited, s);
}

static void given(void *ctx, const struct msg_answer *answer) {
	struct agent_streams *s = ctx;
	struct fault fault;
	s->asked = NULL;
	int r = answer->fault ? 0 : ends_take(s, ctask_streams_answer(answer), answer->fds);
	if (r < 0)
		fault_errno(&fault, r, "watch the streams of container \"%s\"", s->container_id);
	if (answer->fault || r < 0) {
		fail_all(s, answer->fault ? answer->fault : &fault);
		settle(s);
		return;
	}
	Bulkhead__CtaskKey key = BULKHEAD__CTASK_KEY__INIT;
	key.namespace_ = (char *)AGENT_NAMESPACE;
	key.container_id = s->container_id;
	key.exec_id = s->exec_id;
	s->given = true;
	wait_begin(s, &key);
	work_all(s);
}

static struct agent_streams *streams_new(struct grpc_server *server, const char *container_id, const char *exec_id) {
	struct agent_streams *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->server = server;
	for (int i = 0; i < STREAMS; i++) {
		list_init(&s->queues[i]);
		s->ends[i] = (struct end){ .streams = s, .fd = -1 };
	}
	s->container_id = strdup(container_id);
	s->exec_id = strdup(exec_id);
	if (!s->container_id || !s->exec_id) {
		streams_free(s);
		return NULL;
	}
	s->next = server->agent_streams;
	server->agent_streams = s;
	return s;
}

static struct agent_streams *find(const struct grpc_server *server, const char *container_id, const char *exec_id) {
	struct agent_streams *s = server->agent_streams;
	while (s && (s->forgotten || strcmp(s->container_id, container_id) != 0 || strcmp(s->exec_id, exec_id) != 0))
		s = s->next;
	return s;
}

static void ask(struct agent_streams *s, const struct agent_stream_call *x) {
	Bulkhead__CtaskKey key = BULKHEAD__CTASK_KEY__INIT;
	struct msg_context context = *grpc_call_context(x->call);
	key.namespace_ = (char *)AGENT_NAMESPACE;
	key.container_id = s->container_id;
	key.exec_id = s->exec_id;
	/* Others may come to wait for it. */
	context.deadline = 0;
	s->asked = ctask_streams_send(s->server->metadata, &context, &key, NULL, 0, given, s);
}

int agent_streams_join(struct agent_stream_call *x, const char *container_id, const char *exec_id, int stream) {
	struct grpc_server *server = grpc_call_server(x->call);
	const char *id = strcmp(exec_id, container_id) == 0 ? "" : exec_id;
	struct agent_streams *s = find(server, container_id, id);
	bool made = !s;
	if (!s && !(s = streams_new(server, container_id, id)))
		return -ENOMEM;
	x->streams = s;
	list_append(&s->queues[stream], &x->node);
	if (made)
		ask(s, x);
	else
		work_all(s);
	return 0;
}

void agent_streams_leave(struct agent_stream_call *x) {
	struct agent_streams *s = x->streams;
	msg_cancel(x->asked);
	list_unlink(&x->node);
	if (s && !s->working)
		work_all(s); /* the next one's turn, or the end */
}

void agent_streams_forget(struct grpc_server *server, const char *container_id) {
	for (struct agent_streams *s = server->agent_streams, *next; s; s = next) {
		next = s->next;
		if (container_id && strcmp(s->container_id, container_id) != 0)
			continue;
		s->forgotten = true;
		settle(s);
	}
}
