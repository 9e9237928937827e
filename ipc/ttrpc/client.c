/*
 * Owns the connection of a client: what arrives, what waits to be sent, its end.
 *
 * Calls that are made in one turn of the loop leave together at its end. One
 * send is under way at a time; calls keep their requests until they are part of
 * one, so that those that are given up before never reach the server.
 *
 * Whatever the server does wrong ends the connection, from within the loop's
 * callback that saw it. Whoever is told may free the client: then the callback
 * that is running (busy) frees the memory when it is done.
 */
#include "ttrpc/internal.h"

#include "base/fd.h"

#include <stdarg.h>
#include <stdio.h>

#define SEND_MAX (256u << 10)

/* --- the end --- */

static void io_close(struct ttrpc_client *c) {
	c->over = true;
	loop_source_free_p(&c->input);
	loop_source_free_p(&c->output);
	loop_source_free_p(&c->flush);
	ttrpc_line_deinit(&c->line);
	fd_close_p(&c->fd);
	buffer_deinit(&c->out);
	buffer_deinit(&c->body);
}

void ttrpc_client_end(struct ttrpc_client *c, const char *format, ...) {
	char text[256];
	struct fault fault;
	va_list ap;
	if (c->over)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	fault_set(&fault, FAULT_UNAVAILABLE, "%s", text);
	io_close(c);
	ttrpc_calls_fail(c, &fault);
	if (!c->gone && c->options.ended)
		c->options.ended(c->options.ctx, &fault);
}

void ttrpc_client_enter(struct ttrpc_client *c) {
	c->busy = true;
}

void ttrpc_client_leave(struct ttrpc_client *c) {
	c->busy = false;
	if (c->gone)
		free(c);
}

/* --- sending --- */

static void sent(void *ctx, int result);

static int out_send(struct ttrpc_client *c) {
	struct buffer out CLEANUP_BUFFER = buffer_take(&c->out);
	struct loop *l = c->options.loop;
	return c->file ? loop_write(l, c->fd, -1, &out, sent, c, &c->output)
		       : loop_send(l, c->fd, &out, sent, c, &c->output);
}

static void push(struct ttrpc_client *c) {
	if (c->over || c->sending)
		return;
	while (!c->line.lost && c->out.size < SEND_MAX && !c->out.failed && ttrpc_call_next(c))
		;
	if (c->out.size == 0 && !c->out.failed)
		return;
	loop_source_free_p(&c->output);
	int r = out_send(c);
	c->sending = r == 0;
	if (r < 0)
		ttrpc_client_end(c, "send to the ttrpc server: %s", strerrordesc_np(-r));
}

static void sent(void *ctx, int result) {
	struct ttrpc_client *c = ctx;
	ttrpc_client_enter(c);
	c->sending = false;
	if (result < 0)
		ttrpc_client_end(c, "send to the ttrpc server: %s", strerrordesc_np(-result));
	push(c);
	ttrpc_client_leave(c);
}

static void flush(void *ctx) {
	struct ttrpc_client *c = ctx;
	ttrpc_client_enter(c);
	loop_source_free_p(&c->flush);
	push(c);
	ttrpc_client_leave(c);
}

int ttrpc_client_flush(struct ttrpc_client *c) {
	return c->flush || c->sending ? 0 : loop_defer(c->options.loop, flush, c, &c->flush);
}

void ttrpc_client_request(struct ttrpc_client *c, uint32_t stream, const ProtobufCMessage *request) {
	const struct ttrpc_frame frame = { .size = (uint32_t)protobuf_c_message_get_packed_size(request),
					   .stream = stream,
					   .type = TTRPC_REQUEST };
	uint8_t *p = buffer_reserve(&c->out, TTRPC_HEADER + frame.size);
	if (!p)
		return;
	ttrpc_frame_write(&frame, p);
	c->out.size += TTRPC_HEADER + protobuf_c_message_pack(request, p + TTRPC_HEADER);
}

void ttrpc_client_cancel(struct ttrpc_client *c, uint32_t stream) {
	const struct ttrpc_frame frame = { .stream = stream, .type = TTRPC_DATA, .flags = TTRPC_NO_DATA };
	uint8_t *p = ttrpc_client_flush(c) < 0 ? NULL : buffer_reserve(&c->out, TTRPC_HEADER);
	if (!p)
		return;
	ttrpc_frame_write(&frame, p);
	c->out.size += TTRPC_HEADER;
}

/* --- receiving --- */

static bool was_opened(const struct ttrpc_client *c, uint32_t stream) {
	return stream % 2 == 1 && stream < c->next;
}

static void frame_end(struct ttrpc_client *c) {
	const struct ttrpc_frame f = c->frame;
	struct buffer body CLEANUP_BUFFER = buffer_take(&c->body);
	c->n_header = 0;
	if (!ttrpc_call_response(c, f.stream, body.data, body.size))
		ttrpc_client_end(c, "what the ttrpc server sent on stream %u is no response", f.stream);
}

static void frame_begin(struct ttrpc_client *c) {
	const struct ttrpc_frame f = c->frame = ttrpc_frame_parse(c->header);
	if (f.type != TTRPC_RESPONSE)
		ttrpc_client_end(c, "the ttrpc server sent a frame of type %u", f.type);
	else if (f.flags & ~TTRPC_REMOTE_CLOSED)
		ttrpc_client_end(c, "the ttrpc server sent a response with flags 0x%02x", f.flags);
	else if (!was_opened(c, f.stream))
		ttrpc_client_end(c, "the ttrpc server sent a response on stream %u, which was never opened", f.stream);
	else if (f.size > TTRPC_DATA_MAX)
		ttrpc_client_end(c, "the ttrpc server sent a response of %u bytes, the limit is %u", f.size,
				 TTRPC_DATA_MAX);
	else if (f.size == 0)
		frame_end(c);
}

static size_t take_header(struct ttrpc_client *c, const uint8_t *data, size_t size) {
	size_t n = MIN(size, TTRPC_HEADER - c->n_header);
	memcpy(c->header + c->n_header, data, n);
	c->n_header += n;
	if (c->n_header == TTRPC_HEADER)
		frame_begin(c);
	return n;
}

/* Room is made for what has come, not for what is announced. */
static size_t take_body(struct ttrpc_client *c, const uint8_t *data, size_t size) {
	size_t n = MIN(size, c->frame.size - c->body.size);
	buffer_add(&c->body, data, n);
	if (c->body.failed)
		ttrpc_client_end(c, "no memory for a response of %u bytes", c->frame.size);
	else if (c->body.size == c->frame.size)
		frame_end(c);
	return n;
}

static void found(struct ttrpc_client *c) {
	void (*ready)(void *ctx) = take_ptr(c->options.ready);
	if (ttrpc_line_watch(c) < 0)
		ttrpc_client_end(c, "no memory for the serial line");
	else if (ready)
		ready(c->options.ctx);
	push(c);
}

static void take(struct ttrpc_client *c, const uint8_t *data, size_t size) {
	while (size > 0 && !c->over) {
		bool lost = c->line.lost;
		size_t n = lost				? ttrpc_line_input(c, data, size)
			   : c->n_header < TTRPC_HEADER ? take_header(c, data, size)
							: take_body(c, data, size);
		data += n;
		size -= n;
		if (lost && !c->line.lost)
			found(c);
	}
}

static void received(void *ctx, const uint8_t *data, ssize_t n) {
	struct ttrpc_client *c = ctx;
	ttrpc_client_enter(c);
	if (n > 0)
		take(c, data, (size_t)n);
	else if (n < 0)
		ttrpc_client_end(c, "receive from the ttrpc server: %s", strerrordesc_np((int)-n));
	else
		ttrpc_client_end(c, "the ttrpc server has closed the connection%s",
				 c->n_header > 0 ? " within a response" : "");
	ttrpc_client_leave(c);
}

/* --- clients --- */

static int begin(struct ttrpc_client *c) {
	int type;
	socklen_t size = sizeof(type);
	c->file = getsockopt(c->fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0;
	if (!c->file && type != SOCK_STREAM)
		return -EPROTOTYPE;
	int r = (c->file ? loop_read : loop_recv)(c->options.loop, c->fd, received, c, &c->input);
	if (r == 0 && c->options.line)
		r = ttrpc_line_begin(c);
	return r;
}

int ttrpc_client_new(const struct ttrpc_client_options *options, int fd_taken, struct ttrpc_client **ret_client) {
	int fd CLEANUP_FD = fd_taken;
	struct ttrpc_client *c CLEANUP_TTRPC_CLIENT = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->options = *options;
	c->fd = take_fd(&fd);
	c->next = 1;
	list_init(&c->unsent);
	list_init(&c->sent);
	list_init(&c->refused);
	list_init(&c->lost);
	int r = begin(c);
	if (r < 0)
		return r;
	*ret_client = take_ptr(c);
	return 0;
}

void ttrpc_client_free(struct ttrpc_client *c) {
	if (!c)
		return;
	io_close(c);
	ttrpc_calls_free(c);
	c->gone = true;
	if (!c->busy)
		free(c);
}
