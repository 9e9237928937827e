/*
 * Owns one ttrpc_session per connection: the frame that is arriving, the
 * responses that wait to be sent.
 *
 * Memory: a frame's data is counted as it arrives and given back when its
 * request is on its way; a reply is counted from when it is made until it was
 * handed out. A frame that doesn't fit is answered so and skipped. Answers
 * without a reply aren't counted; a client that lets them pile up isn't read
 * any more.
 */
#include "workers/api/ttrpc.h"

#include "ttrpc/ttrpc.pb-c.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define STREAMS_MAX 4096
#define CONNECTION_BUDGET (64u << 20)
#define CLOGGED (1u << 20) /* bytes of responses */

/* --- responses --- */

static void touch(struct ttrpc_session *s) {
	if (!s->fed)
		s->options.wants_output(s->options.ctx);
}

static void queue(struct ttrpc_session *s, uint32_t stream, const Ttrpc__Response *response) {
	const struct ttrpc_frame frame = {
		.size = (uint32_t)ttrpc__response__get_packed_size(response),
		.stream = stream,
		.type = TTRPC_RESPONSE,
	};
	uint8_t *p = buffer_reserve(&s->out, TTRPC_HEADER + frame.size);
	if (!p) {
		s->failed = true;
		return;
	}
	ttrpc_frame_write(&frame, p);
	s->out.size += TTRPC_HEADER + ttrpc__response__pack(response, p + TTRPC_HEADER);
}

void ttrpc_respond(struct ttrpc_session *s, uint32_t stream, const struct fault *fault, const struct buffer *payload) {
	Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	if (fault) {
		status.code = (int32_t)fault->code;
		status.message = (char *)(uintptr_t)fault->text;
		response.status = &status;
	} else if (payload) {
		response.payload = (ProtobufCBinaryData){ .data = payload->data, .len = payload->size };
	}
	queue(s, stream, &response);
	s->out_held += payload ? payload->size : 0;
	touch(s);
}

void ttrpc_answer(struct ttrpc_session *s, uint32_t stream, enum fault_code code, const char *format, ...) {
	char text[256];
	struct fault fault;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, code, "stream %u: %s", stream, text);
	ttrpc_respond(s, stream, &fault, NULL);
}

/* --- what a frame means --- */

/* Every client numbers its streams from 1, so on a line another one has come.
 * What the one before it had asked is cancelled; answers on their way aren't
 * taken back, as the line may be in the middle of one. */
static void client_changed(struct ttrpc_session *s) {
	ttrpc_streams_free(s, true);
	s->last = 0;
	s->met = true;
}

static void on_request(struct ttrpc_session *s, const struct ttrpc_frame *f) {
	if (s->options.line && f->stream == 1)
		client_changed(s);
	uint32_t last = s->last;
	if (f->stream % 2 == 0) {
		ttrpc_answer(s, f->stream, FAULT_INVALID_ARGUMENT, "the numbers of a client's streams are odd");
		return;
	}
	if (f->stream <= last) {
		ttrpc_answer(s, f->stream, FAULT_INVALID_ARGUMENT, "its number isn't above the last one, %u", last);
		return;
	}
	s->last = f->stream;
	if (f->flags & ~(TTRPC_REMOTE_CLOSED | TTRPC_REMOTE_OPEN))
		ttrpc_answer(s, f->stream, FAULT_INVALID_ARGUMENT, "a request has unknown flags 0x%02x", f->flags);
	else if (f->flags & TTRPC_REMOTE_OPEN)
		ttrpc_answer(s, f->stream, FAULT_UNIMPLEMENTED, "a request that is a stream isn't served over ttrpc");
	else if (s->stopping)
		ttrpc_answer(s, f->stream, FAULT_UNAVAILABLE, "the server stops");
	else if (s->n_streams == STREAMS_MAX)
		ttrpc_answer(s, f->stream, FAULT_RESOURCE_EXHAUSTED, "%d calls are open on this connection",
			     STREAMS_MAX);
	else
		ttrpc_stream_begin(s, f->stream, s->body.data, s->body.size);
}

/* The end of a stream of requests may come extra, and nothing at all is how our
 * own client cancels a call (ipc/ttrpc/client.h); nothing else may. */
static void on_data(struct ttrpc_session *s, const struct ttrpc_frame *f) {
	struct ttrpc_stream *t = ttrpc_stream_find(s, f->stream);
	if (!t)
		ttrpc_answer(s, f->stream, FAULT_INVALID_ARGUMENT, "data came, but no call is open there");
	else if (f->size == 0 && f->flags == TTRPC_NO_DATA)
		ttrpc_stream_cancel(t);
	else if (f->size > 0 || !(f->flags & TTRPC_REMOTE_CLOSED))
		ttrpc_stream_data(t);
}

static void (*const on_frame[])(struct ttrpc_session *s, const struct ttrpc_frame *f) = {
	[TTRPC_REQUEST] = on_request,
	[TTRPC_DATA] = on_data,
};

static bool is_known(const struct ttrpc_frame *f) {
	return f->type < ARRAY_SIZE(on_frame) && on_frame[f->type];
}

/* --- frames as they arrive --- */

static void frame_end(struct ttrpc_session *s) {
	const struct ttrpc_frame f = s->frame;
	s->n_header = 0;
	if (!s->skip)
		on_frame[f.type](s, &f);
	budget_give(&s->budget, s->held);
	s->held = 0;
	buffer_deinit(&s->body);
	ttrpc_streams_free(s, false);
}

static void frame_skip(struct ttrpc_session *s) {
	s->skip = true;
	buffer_deinit(&s->body);
	budget_give(&s->budget, s->held);
	s->held = 0;
}

static void frame_begin(struct ttrpc_session *s) {
	s->frame = ttrpc_frame_parse(s->header);
	s->left = s->frame.size;
	s->skip = !is_known(&s->frame);
	if (!s->skip && s->frame.size > TTRPC_DATA_MAX) {
		ttrpc_answer(s, s->frame.stream, FAULT_RESOURCE_EXHAUSTED, "a frame has %u bytes, the limit is %u",
			     s->frame.size, TTRPC_DATA_MAX);
		s->skip = true;
	}
	if (s->left == 0)
		frame_end(s);
}

static void body_add(struct ttrpc_session *s, const uint8_t *data, size_t size) {
	if (!budget_take(&s->budget, size)) {
		ttrpc_answer(s, s->frame.stream, FAULT_RESOURCE_EXHAUSTED,
			     "too many bytes of requests and unread replies are held already; try again");
		frame_skip(s);
		return;
	}
	s->held += size;
	buffer_add(&s->body, data, size);
	if (!s->body.failed)
		return;
	ttrpc_answer(s, s->frame.stream, FAULT_RESOURCE_EXHAUSTED, "no memory for a request of %u bytes",
		     s->frame.size);
	frame_skip(s);
}

static size_t take_body(struct ttrpc_session *s, const uint8_t *data, size_t size) {
	size_t n = MIN(size, s->left);
	if (!s->skip)
		body_add(s, data, n);
	s->left -= n;
	if (s->left == 0)
		frame_end(s);
	return n;
}

/* --- hybrid vsock's line --- */

static void greet(struct ttrpc_session *s) {
	uint32_t port;
	if (s->line[s->n_line - 1] != '\n') {
		s->failed = s->n_line == sizeof(s->line);
		return;
	}
	s->greeting = false;
	s->failed = ttrpc_connect_parse(s->line, s->n_line, &port) < 0;
	if (!s->failed)
		buffer_addf(&s->out, "OK %u\n", port);
}

static size_t take_line(struct ttrpc_session *s, const uint8_t *data) {
	s->line[s->n_line++] = (char)*data;
	greet(s);
	return 1;
}

static void greeting_begin(struct ttrpc_session *s) {
	s->greeting = true;
	s->n_header = 0;
	s->n_line = TTRPC_HEADER;
	memcpy(s->line, s->header, TTRPC_HEADER);
	greet(s);
}

static size_t take_header(struct ttrpc_session *s, const uint8_t *data, size_t size) {
	size_t n = MIN(size, TTRPC_HEADER - s->n_header);
	memcpy(s->header + s->n_header, data, n);
	s->n_header += n;
	if (s->n_header < TTRPC_HEADER)
		return n;
	bool first = !s->begun;
	s->begun = true;
	if (first && ttrpc_connect_begins(s->header))
		greeting_begin(s);
	else
		frame_begin(s);
	return n;
}

/* --- sessions --- */

static int session_open(const struct protocol_options *options, void **ret_session) {
	struct ttrpc_session *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->budget = (struct budget){ .limit = CONNECTION_BUDGET, .parent = options->budget };
	list_init(&s->streams);
	list_init(&s->ended);
	*ret_session = s;
	return 0;
}

static void session_close(void *session) {
	struct ttrpc_session *s = session;
	if (!s)
		return;
	s->fed = true; /* nobody wants output any more */
	ttrpc_streams_free(s, true);
	budget_give(&s->budget, s->held + s->out_held);
	buffer_deinit(&s->body);
	buffer_deinit(&s->out);
	free(s);
}

static int session_input(void *session, const uint8_t *data, size_t size) {
	struct ttrpc_session *s = session;
	s->fed = true;
	while (size > 0 && !s->failed) {
		size_t n = s->greeting			? take_line(s, data)
			   : s->n_header < TTRPC_HEADER ? take_header(s, data, size)
							: take_body(s, data, size);
		data += n;
		size -= n;
	}
	s->fed = false;
	return s->failed ? -EPROTO : 0;
}

/* What was handed out is cut off now and then, so that each byte moves once or
 * twice however long a client keeps us busy. */
static void out_cut(struct ttrpc_session *s, size_t n) {
	size_t counted = MIN(n, s->out_held);
	budget_give(&s->budget, counted);
	s->out_held -= counted;
	s->out_sent += n;
	if (s->out_sent == s->out.size) {
		buffer_deinit(&s->out);
		s->out_sent = 0;
	} else if (s->out_sent > s->out.size / 2) {
		buffer_consume(&s->out, s->out_sent);
		s->out_sent = 0;
	}
}

static int session_output(void *session, struct buffer *out, size_t max) {
	struct ttrpc_session *s = session;
	ttrpc_streams_free(s, false);
	if (s->failed || s->out.failed)
		return -ENOMEM;
	size_t n = MIN(s->out.size - s->out_sent, max > out->size ? max - out->size : 0);
	if (n == 0)
		return 0;
	buffer_add(out, s->out.data + s->out_sent, n);
	if (out->failed)
		return -ENOMEM;
	out_cut(s, n);
	return 0;
}

static bool session_over(const void *session) {
	const struct ttrpc_session *s = session;
	return s->stopping && s->n_streams == 0 && s->out.size == 0;
}

static bool session_clogged(const void *session) {
	const struct ttrpc_session *s = session;
	return s->out.size - s->out_sent > CLOGGED;
}

static void session_stop(void *session) {
	struct ttrpc_session *s = session;
	s->stopping = true;
	touch(s);
}

const struct protocol protocol_ttrpc = {
	.open = session_open,
	.close = session_close,
	.input = session_input,
	.output = session_output,
	.over = session_over,
	.clogged = session_clogged,
	.stop = session_stop,
};
