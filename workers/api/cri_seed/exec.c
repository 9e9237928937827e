/*
 * Exec of the draft CRI: one call that is the command's streams. Its first
 * message says what to run; stdin may be in that one and in all that follow,
 * and ends when the client has sent its all. Output comes back as it is
 * written. The exit code is the trailer "exit-code"; the status is OK for 0 and
 * UNKNOWN for any other.
 *
 * Nothing is buffered beyond a little in each direction: output is read only
 * while the client takes it, and the client's window opens only as the command
 * reads. A client that goes away ends the command.
 */
#include "workers/api/cri_seed/seed.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#define CHUNK 16384
#define UNSENT_MAX (256 << 10)
#define PENDING_MAX (64 << 10)
/* What the command leaves behind may keep its output open: it is read for so
 * long after the end. */
#define LINGER_NS (1 * NS_PER_SEC)

struct output {
	struct exec *exec;
	int fd; /* -1: at its end */
	bool is_stderr;
	struct loop_source *source;
};

struct exec {
	struct grpc_call *call;
	struct loop *loop;
	char id[ID_SIZE];
	char *container;
	bool begun, tty, input_ended;
	struct msg_call *open, *wait;
	struct output out[2];
	int in; /* with tty the same as the first output's */
	struct loop_source *writable, *linger;
	struct buffer pending; /* for stdin; written up to sent */
	size_t sent;
	bool exited;
	int code;
};

static void *exec_open(struct grpc_call *c) {
	struct exec *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	*x = (struct exec){ .call = c, .loop = grpc_call_server(c)->loop, .in = -1 };
	for (int i = 0; i < 2; i++)
		x->out[i] = (struct output){ .exec = x, .fd = -1, .is_stderr = i == 1 };
	id_random(x->id);
	return x;
}

static void output_close(struct output *o) {
	loop_source_free_p(&o->source);
	if (o->fd == o->exec->in) {
		loop_source_free_p(&o->exec->writable);
		o->exec->in = -1;
	}
	fd_replace(&o->fd, -1);
}

static void input_close(struct exec *x) {
	loop_source_free_p(&x->writable);
	if (!x->tty)
		fd_close(x->in);
	x->in = -1;
	buffer_deinit(&x->pending);
	x->sent = 0;
}

static void exec_closed(void *handler) {
	struct exec *x = handler;
	msg_cancel(x->open);
	msg_cancel(x->wait);
	loop_source_free(x->linger);
	input_close(x);
	output_close(&x->out[0]);
	output_close(&x->out[1]);
	free(x->container);
	free(x);
}

/* --- the end; the call, and x with it, may be gone afterwards --- */

static void check_end(struct exec *x) {
	if (!x->exited || x->out[0].fd >= 0 || x->out[1].fd >= 0)
		return;
	grpc_trailer(x->call, "exit-code", x->code);
	if (x->code == 0)
		grpc_finish(x->call);
	else
		grpc_failf(x->call, FAULT_UNKNOWN, "the command has ended with exit code %d", x->code);
}

static void lingered(void *ctx) {
	struct exec *x = ctx;
	loop_source_free_p(&x->linger);
	/* A slow client is waited for, not what holds the output open. */
	if (grpc_unsent(x->call) > 0 && loop_timer(x->loop, clock_mono() + LINGER_NS, lingered, x, &x->linger) == 0)
		return;
	output_close(&x->out[0]);
	output_close(&x->out[1]);
	check_end(x);
}

static void waited(void *ctx, const struct msg_answer *answer) {
	struct exec *x = ctx;
	x->wait = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	x->exited = true;
	x->code = call_exec_wait_answer(answer)->exit_code;
	if (loop_timer(x->loop, clock_mono() + LINGER_NS, lingered, x, &x->linger) < 0)
		lingered(x);
	else
		check_end(x);
}

/* --- output --- */

/* False: the call is gone. */
static bool output_send(struct output *o, uint8_t *data, size_t size) {
	Runtime__ExecResponse a = RUNTIME__EXEC_RESPONSE__INIT;
	ProtobufCBinaryData bytes = { .data = data, .len = size };
	if (o->is_stderr) {
		a.has_stderr = true;
		a.stderr = bytes;
	} else {
		a.has_stdout = true;
		a.stdout = bytes;
	}
	return grpc_reply_part(o->exec->call, &a.base) == 0;
}

/* Until there is nothing more or the client is behind. False: the call is gone. */
static bool output_pull(struct output *o) {
	uint8_t data[CHUNK];
	while (o->fd >= 0 && grpc_unsent(o->exec->call) < UNSENT_MAX) {
		ssize_t n = read(o->fd, data, sizeof(data));
		if (n > 0) {
			if (!output_send(o, data, (size_t)n))
				return false;
		} else if (n < 0 && errno == EAGAIN) {
			return true;
		} else if (n == 0 || errno != EINTR) {
			output_close(o); /* EIO is a terminal's end */
		}
	}
	return true;
}

static void pull_all(struct exec *x) {
	if (output_pull(&x->out[0]) && output_pull(&x->out[1]))
		check_end(x);
}

static void output_ready(void *ctx, uint32_t events) {
	pull_all(((struct output *)ctx)->exec);
}

static void exec_room(void *handler) {
	pull_all(handler);
}

/* --- input --- */

static bool exec_busy(void *handler) {
	const struct exec *x = handler;
	return x->pending.size - x->sent > PENDING_MAX;
}

/* Nobody reads: what comes is thrown away, as a shell's pipe would. */
static void input_push(struct exec *x) {
	while (x->in >= 0 && x->sent < x->pending.size) {
		ssize_t n = write(x->in, x->pending.data + x->sent, x->pending.size - x->sent);
		if (n > 0)
			x->sent += (size_t)n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			input_close(x);
	}
	if (x->begun && x->in < 0 && !x->open)
		x->sent = x->pending.size;
	if (x->sent == x->pending.size) {
		buffer_deinit(&x->pending);
		x->sent = 0;
		if (x->input_ended && !x->tty && x->in >= 0)
			input_close(x);
	}
	if (!exec_busy(x))
		grpc_ready(x->call);
}

static void input_ready(void *ctx, uint32_t events) {
	input_push(ctx);
}

static void exec_end(void *handler) {
	struct exec *x = handler;
	if (!x->begun) {
		grpc_failf(x->call, FAULT_INVALID_ARGUMENT, "Exec: the request has no message");
		return;
	}
	x->input_ended = true;
	input_push(x);
}

/* --- the begin --- */

static int streams_begin(struct exec *x) {
	for (int i = 0; i < 2; i++) {
		struct output *o = &x->out[i];
		if (o->fd < 0)
			continue;
		if (fcntl(o->fd, F_SETFL, O_NONBLOCK) < 0)
			return -errno;
		int r = loop_poll(x->loop, o->fd, POLLIN, output_ready, o, &o->source);
		if (r < 0)
			return r;
	}
	if (!x->tty && fcntl(x->in, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return loop_poll(x->loop, x->in, POLLOUT, input_ready, x, &x->writable);
}

static void opened(void *ctx, const struct msg_answer *answer) {
	struct exec *x = ctx;
	x->open = NULL;
	if (answer->fault) {
		grpc_fail(x->call, answer->fault);
		return;
	}
	if (x->tty) {
		x->in = x->out[0].fd = take_fd(&answer->fds[0]);
	} else {
		x->in = take_fd(&answer->fds[0]);
		x->out[0].fd = take_fd(&answer->fds[1]);
		x->out[1].fd = take_fd(&answer->fds[2]);
	}
	Bulkhead__ExecWaitRequest q = BULKHEAD__EXEC_WAIT_REQUEST__INIT;
	q.container_id = x->container;
	q.exec_id = x->id;
	x->wait = call_exec_wait_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), &q, NULL, 0,
				      waited, x);
	int r = streams_begin(x);
	if (r < 0) {
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Exec: its streams: %s", strerrordesc_np(-r));
		return;
	}
	input_push(x);
	pull_all(x);
}

static void exec_begin(struct exec *x, const Runtime__ExecRequest *m) {
	Bulkhead__ExecOpenRequest q = BULKHEAD__EXEC_OPEN_REQUEST__INIT;
	x->begun = true;
	x->tty = m->tty;
	x->container = strdup(seed_to_v1(m->container_id));
	if (!x->container || m->n_cmd == 0) {
		grpc_failf(x->call, FAULT_INVALID_ARGUMENT, "Exec: the command is empty");
		return;
	}
	q.container_id = x->container;
	q.exec_id = x->id;
	q.n_args = m->n_cmd;
	q.args = m->cmd;
	q.tty = m->tty;
	q.stdin = q.stdout = true;
	q.stderr = !m->tty;
	x->open =
	    call_exec_send(grpc_call_server(x->call)->metadata, grpc_call_context(x->call), &q, NULL, 0, opened, x);
}

static void exec_message(void *handler, const ProtobufCMessage *request) {
	const Runtime__ExecRequest *m = (const Runtime__ExecRequest *)request;
	struct exec *x = handler;
	if (m->has_stdin && !(x->begun && x->in < 0 && !x->open))
		buffer_add(&x->pending, m->stdin.data, m->stdin.len);
	if (x->pending.failed)
		grpc_failf(x->call, FAULT_RESOURCE_EXHAUSTED, "Exec: no memory for stdin");
	else if (!x->begun)
		exec_begin(x, m);
	else
		input_push(x);
}

const struct grpc_handler seed_exec = {
	.client_streams = true,
	.open = exec_open,
	.message = exec_message,
	.end = exec_end,
	.room = exec_room,
	.busy = exec_busy,
	.closed = exec_closed,
};
