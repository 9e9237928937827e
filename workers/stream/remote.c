/*
 * Sessions of a command or an attached container: stdin, stdout, stderr, the
 * terminal's size, and a last word on how it ended.
 *
 *   streams come -> open (through the metadata worker, down to the keeper)
 *     -> bytes between client and descriptors -> the command has ended and its
 *     output is read, or the container's output has ended -> status, goodbye
 *
 * A client that goes takes its command with it; a container only loses a
 * reader. Who attached to a terminal goes by ending his input, as crictl does
 * with Ctrl-P Ctrl-Q. Output of what a command has left running is not waited for.
 */
#include "workers/stream/stream.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "workers/stream/json.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define STREAMS_TIME (30 * NS_PER_SEC)
#define OPEN_TIME (120 * NS_PER_SEC)
#define SIZE_TEXT_MAX 127

/* With WebSocket these are the channels' numbers. */
enum channel { STDIN, STDOUT, STDERR, ERROR, RESIZE, CHANNELS };

static const char *const channel_names[CHANNELS] = {
	[STDIN] = "stdin", [STDOUT] = "stdout", [STDERR] = "stderr", [ERROR] = "error", [RESIZE] = "resize",
};

struct remote {
	struct conn *conn;
	struct ticket *ticket;
	const Bulkhead__StreamOpenRequest *what;
	unsigned version;
	struct {
		bool expected, there;
		uint32_t id;
	} channels[CHANNELS];
	char exec_id[ID_SIZE];
	struct loop_source *timer; /* for the streams to come */
	struct msg_call *call;	   /* to open, then to wait */
	bool opened, exited, detaching, over;
	int32_t exit_code;
	bool terminal, takes_input;
	struct flow flows[3]; /* by channel; a terminal's first is input and output */
	char size_text[SIZE_TEXT_MAX + 1];
	size_t size_used;
};

/* --- the end --- */

static void status_send(struct remote *r, const struct buffer *status) {
	struct conn *c = r->conn;
	if (r->over)
		return;
	r->over = true;
	for (int i = STDOUT; i <= STDERR; i++)
		if (r->channels[i].there)
			conn_send(c, r->channels[i].id, NULL, 0, true);
	if (r->channels[ERROR].there)
		conn_send(c, r->channels[ERROR].id, status->data, status->size, true);
	conn_finish(c);
}

static void failed(struct remote *r, const struct fault *fault) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	if (r->version >= 4)
		json_add_failure(&b, fault->text);
	else
		buffer_addf(&b, "%s", fault->text);
	status_send(r, &b);
}

static void ended(struct remote *r) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	if (r->version >= 4)
		json_add_exit(&b, r->exit_code);
	else if (r->exit_code != 0)
		buffer_addf(&b, "command terminated with non-zero exit code: exit status %d", r->exit_code);
	status_send(r, &b);
}

static bool output_over(const struct flow *f, bool quiet_is_over) {
	return f->fd < 0 || !f->reads || f->read_ended || (quiet_is_over && f->empty);
}

/* After the command's end its output is over when nothing more is there; a
 * container's is over when the keeper says so by closing it. A client that
 * detaches stays until its input is written. */
static void check_end(struct remote *r) {
	bool exec = r->what->kind == BULKHEAD__STREAM_KIND__STREAM_EXEC;
	if (!r->opened || r->over || (exec && !r->exited))
		return;
	if (r->detaching && flow_waiting(&r->flows[STDIN]) == 0) {
		ended(r);
		return;
	}
	for (int i = 0; i < 3; i++)
		if (!output_over(&r->flows[i], exec))
			return;
	ended(r);
}

/* --- flows --- */

static enum channel output_of(const struct remote *r, const struct flow *f) {
	return f == &r->flows[STDERR] ? STDERR : STDOUT;
}

static size_t flow_room(void *ctx, struct flow *f) {
	struct remote *r = ctx;
	enum channel o = output_of(r, f);
	if (r->over || !conn_open(r->conn))
		return 0;
	/* What nobody asked for is read away. */
	return r->channels[o].there ? conn_room(r->conn, r->channels[o].id) : OUTPUT_MAX;
}

static void flow_data(void *ctx, struct flow *f, const uint8_t *data, size_t size) {
	struct remote *r = ctx;
	enum channel o = output_of(r, f);
	if (r->channels[o].there)
		conn_send(r->conn, r->channels[o].id, data, size, false);
}

static void flow_ended(void *ctx, struct flow *f) {
	struct remote *r = ctx;
	enum channel o = output_of(r, f);
	if (r->channels[o].there)
		conn_send(r->conn, r->channels[o].id, NULL, 0, true);
	check_end(r);
}

static void flow_written(void *ctx, struct flow *f, size_t size) {
	struct remote *r = ctx;
	if (r->channels[STDIN].there)
		conn_consumed(r->conn, r->channels[STDIN].id, size);
	conn_balance(r->conn, f);
	if (r->detaching)
		check_end(r);
}

static const struct flow_events flow_events = {
	.room = flow_room,
	.data = flow_data,
	.ended = flow_ended,
	.written = flow_written,
};

static void pull_all(struct remote *r) {
	for (int i = 0; i < 3; i++)
		if (r->flows[i].fd >= 0 && r->flows[i].reads)
			flow_pull(&r->flows[i]);
	check_end(r);
}

static void remote_writable(void *session) {
	struct remote *r = session;
	if (r->opened)
		pull_all(r);
}

/* --- input --- */

static void input(struct remote *r, const uint8_t *data, size_t size) {
	struct flow *f = &r->flows[STDIN];
	flow_write(f, data, size);
	conn_balance(r->conn, f);
}

static void input_end(struct remote *r) {
	/* A terminal has no end. */
	if (!r->terminal && !r->what->tty)
		flow_finish(&r->flows[STDIN]);
	r->detaching = r->what->tty && r->what->kind == BULKHEAD__STREAM_KIND__STREAM_ATTACH;
	check_end(r);
}

static void resize(struct remote *r, const char *text, size_t size) {
	struct winsize w = { 0 };
	if (!json_read_size(text, size, &w.ws_col, &w.ws_row))
		return;
	if (r->opened && r->terminal && ioctl(r->flows[STDIN].fd, TIOCSWINSZ, &w) < 0)
		log_event(LOG_DEBUG, "a terminal can't be resized", "why", strerrordesc_np(errno), NULL);
}

/* Flat objects, cut anywhere; the latest is kept for when there is a terminal. */
static void resize_data(struct remote *r, const uint8_t *data, size_t size) {
	conn_consumed(r->conn, r->channels[RESIZE].id, size);
	for (size_t i = 0; i < size; i++) {
		if (data[i] == '{')
			r->size_used = 0;
		if (r->size_used == SIZE_TEXT_MAX)
			continue;
		r->size_text[r->size_used++] = (char)data[i];
		if (data[i] == '}')
			resize(r, r->size_text, r->size_used);
	}
}

static enum channel channel_of(const struct remote *r, uint32_t id) {
	int i = 0;
	while (i < CHANNELS && !(r->channels[i].there && r->channels[i].id == id))
		i++;
	return (enum channel)i;
}

static void remote_data(void *session, uint32_t id, const uint8_t *data, size_t size) {
	struct remote *r = session;
	switch (channel_of(r, id)) {
	case STDIN:
		input(r, data, size);
		break;
	case RESIZE:
		resize_data(r, data, size);
		break;
	default:
		conn_consumed(r->conn, id, size);
	}
}

static void remote_ended(void *session, uint32_t id) {
	struct remote *r = session;
	if (channel_of(r, id) == STDIN)
		input_end(r);
}

static void remote_reset(void *session, uint32_t id) {
	struct remote *r = session;
	enum channel i = channel_of(r, id);
	if (i == STDIN)
		input_end(r);
	if (i < CHANNELS)
		r->channels[i].there = false;
	/* Output that nobody wants any more is read away. */
	if (r->opened)
		pull_all(r);
}

/* --- opening --- */

static int flows_open(struct remote *r, int *fds) {
	bool exec = r->what->kind == BULKHEAD__STREAM_KIND__STREAM_EXEC;
	bool both = exec && r->terminal;
	int e = 0;
	for (int i = 0; e == 0 && i < 3; i++) {
		bool reads = both ? i == STDIN : i != STDIN;
		/* A terminal that takes no input is there for its size. */
		if (i == STDIN ? r->takes_input || r->terminal : reads)
			e = flow_open(&r->flows[i], take_fd(&fds[i]), reads, i == STDIN && r->takes_input, false);
		else
			flow_discard(&r->flows[i]);
	}
	return e;
}

static void opened(struct remote *r, int *fds) {
	struct fault fault;
	if (flows_open(r, fds) < 0) {
		fault_set(&fault, FAULT_RESOURCE_EXHAUSTED, "out of memory for the session");
		failed(r, &fault);
		return;
	}
	r->opened = true;
	if (r->size_used > 0)
		resize(r, r->size_text, r->size_used);
	pull_all(r);
}

static void wait_done(void *ctx, const struct msg_answer *a) {
	struct remote *r = ctx;
	r->call = NULL;
	if (a->fault) {
		failed(r, a->fault);
		return;
	}
	r->exited = true;
	r->exit_code = session_exec_wait_answer(a)->exit_code;
	pull_all(r);
}

static void exec_opened(void *ctx, const struct msg_answer *a) {
	struct remote *r = ctx;
	r->call = NULL;
	if (a->fault) {
		failed(r, a->fault);
		return;
	}
	Bulkhead__ExecWaitRequest m = BULKHEAD__EXEC_WAIT_REQUEST__INIT;
	m.sandbox_id = r->what->sandbox_id;
	m.container_id = r->what->container_id;
	m.exec_id = r->exec_id;
	r->call = session_exec_wait_send(r->conn->server->metadata, NULL, &m, NULL, 0, wait_done, r);
	r->terminal = r->what->tty;
	r->takes_input = r->what->stdin;
	opened(r, a->fds);
}

static void attach_opened(void *ctx, const struct msg_answer *a) {
	struct remote *r = ctx;
	r->call = NULL;
	if (a->fault) {
		failed(r, a->fault);
		return;
	}
	r->terminal = session_attach_answer(a)->tty;
	r->takes_input = session_attach_answer(a)->stdin;
	opened(r, a->fds);
}

static void open_exec(struct remote *r, const struct msg_context *context) {
	const Bulkhead__StreamOpenRequest *w = r->what;
	Bulkhead__ExecOpenRequest m = BULKHEAD__EXEC_OPEN_REQUEST__INIT;
	m.sandbox_id = w->sandbox_id;
	m.container_id = w->container_id;
	m.exec_id = r->exec_id;
	m.args = w->args;
	m.n_args = w->n_args;
	m.tty = w->tty;
	m.stdin = w->stdin;
	m.stdout = w->stdout;
	m.stderr = w->stderr;
	r->call = session_exec_send(r->conn->server->metadata, context, &m, NULL, 0, exec_opened, r);
}

static void open_attach(struct remote *r, const struct msg_context *context) {
	const Bulkhead__StreamOpenRequest *w = r->what;
	Bulkhead__AttachOpenRequest m = BULKHEAD__ATTACH_OPEN_REQUEST__INIT;
	m.sandbox_id = w->sandbox_id;
	m.container_id = w->container_id;
	m.stdin = w->stdin;
	m.stdout = w->stdout;
	m.stderr = w->stderr;
	r->call = session_attach_send(r->conn->server->metadata, context, &m, NULL, 0, attach_opened, r);
}

static void all_there(struct remote *r) {
	struct msg_context context = { .deadline = clock_mono() + OPEN_TIME };
	loop_source_free_p(&r->timer);
	conn_complete(r->conn);
	if (r->what->kind == BULKHEAD__STREAM_KIND__STREAM_EXEC)
		open_exec(r, &context);
	else
		open_attach(r, &context);
}

static bool remote_opened(void *session, uint32_t id, const struct mux_stream *m) {
	struct remote *r = session;
	bool missing = false;
	int found = CHANNELS;
	for (int i = 0; i < CHANNELS; i++) {
		if (strcmp(m->type, channel_names[i]) == 0)
			found = i;
		else
			missing |= r->channels[i].expected && !r->channels[i].there;
	}
	if (found == CHANNELS || r->channels[found].there || !r->channels[found].expected)
		return false;
	r->channels[found].there = true;
	r->channels[found].id = id;
	if (!missing)
		all_there(r);
	return true;
}

static void streams_late(void *ctx) {
	struct remote *r = ctx;
	loop_source_free_p(&r->timer);
	conn_fail(r->conn, "the client has not opened its streams");
}

/* --- life --- */

static void remote_free(void *session) {
	struct remote *r = session;
	/* Ends what still runs for this client. */
	msg_cancel(r->call);
	loop_source_free(r->timer);
	for (int i = 0; i < 3; i++) {
		conn_forget(r->conn, &r->flows[i]);
		flow_deinit(&r->flows[i]);
	}
	ticket_free(r->ticket);
	free(r);
}

static const struct session_class remote_class = {
	.mux = { .opened = remote_opened, .data = remote_data, .ended = remote_ended, .reset = remote_reset },
	.writable = remote_writable,
	.free = remote_free,
};

int remote_new(struct conn *c, struct ticket *t, const struct upgrade *u) {
	struct remote *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	const Bulkhead__StreamOpenRequest *w = t->what;
	r->conn = c;
	r->ticket = t;
	r->what = w;
	r->version = u->version;
	id_random(r->exec_id);
	r->channels[STDIN].expected = w->stdin;
	r->channels[STDOUT].expected = w->stdout;
	r->channels[STDERR].expected = w->stderr;
	r->channels[ERROR].expected = true;
	r->channels[RESIZE].expected = w->tty && u->version >= 3;
	for (int i = 0; i < 3; i++)
		flow_init(&r->flows[i], c->server->loop, &flow_events, r);
	c->class = &remote_class;
	c->session = r;
	return 0;
}

void remote_begin(struct conn *c) {
	struct remote *r = c->session;
	if (c->spdy) {
		if (loop_timer(c->server->loop, clock_mono() + STREAMS_TIME, streams_late, r, &r->timer) < 0)
			conn_fail(c, "out of memory");
		return;
	}
	for (int i = 0; i < CHANNELS; i++) {
		r->channels[i].there = r->channels[i].expected || (i == RESIZE && r->what->tty);
		r->channels[i].id = (uint32_t)i;
	}
	/* An empty message tells the client that the channels are there. */
	conn_send(c, r->what->stdout ? STDOUT : r->what->stderr ? STDERR : ERROR, NULL, 0, false);
	all_there(r);
}
