/*
 * Owns one nghttp2 session per connection and one http2_stream per request.
 *
 * Happy path: http2_input feeds nghttp2, whose callbacks collect the header
 * fields, open the call, hand over its body. The reply's frames wait in
 * nghttp2 until http2_output; bodies aren't copied into nghttp2 but go from
 * the stream's buffer straight behind their frame header.
 *
 * Failure: what nghttp2 refuses ends the session (GOAWAY is in its output);
 * what this file refuses of a request resets its stream. Out of memory in
 * here resets the stream.
 */
#include "workers/api/http2.h"

#include "base/list.h"

#include <errno.h>
#include <malloc.h>
#include <nghttp2/nghttp2.h>

#define STREAMS_MAX 256
#define STREAM_WINDOW (1 << 20) /* a 16 MiB message in few round trips */
#define CONNECTION_WINDOW (4 << 20)
#define SESSION_MEMORY_MAX (4 << 20)  /* nghttp2's own, per connection */
#define CONNECTION_BUDGET (96u << 20) /* the largest reply, and some requests */
#define PINGS_HELD 4
#define PING_SIZE 8

struct http2_session {
	nghttp2_session *nghttp2;
	struct http2_options options;
	struct budget budget;
	struct list streams;
	struct head head;   /* of the request whose fields are arriving */
	struct buffer *out; /* during http2_output, with its limit */
	size_t out_max;
	size_t memory; /* what nghttp2 has allocated */
	bool fed;      /* within http2_input: output follows anyway */
	/* Pings that aren't answered yet: an answer goes with the next frame. */
	uint8_t pings[PINGS_HELD][PING_SIZE];
	size_t n_pings;
};

struct http2_stream {
	struct list node;
	struct http2_session *session;
	int32_t id;
	void *call;
	struct buffer body; /* of the response */
	size_t body_sent;
	size_t held;
	bool finished;
	bool by_hand; /* who reads the request says when the client may send more */
};

/* --- nghttp2's memory, counted --- */

static bool memory_count(struct http2_session *c, void *p) {
	c->memory += malloc_usable_size(p);
	return c->memory <= SESSION_MEMORY_MAX;
}

static void memory_free(void *p, void *ctx) {
	struct http2_session *c = ctx;
	c->memory -= malloc_usable_size(p);
	free(p);
}

static void *memory_checked(struct http2_session *c, void *p) {
	if (p && !memory_count(c, p)) {
		memory_free(p, c);
		return NULL;
	}
	return p;
}

static void *memory_malloc(size_t size, void *ctx) {
	return memory_checked(ctx, malloc(size));
}

static void *memory_calloc(size_t n, size_t size, void *ctx) {
	return memory_checked(ctx, calloc(n, size));
}

static void *memory_realloc(void *p, size_t size, void *ctx) {
	struct http2_session *c = ctx;
	if (c->memory + size > SESSION_MEMORY_MAX + malloc_usable_size(p))
		return NULL;
	size_t before = malloc_usable_size(p);
	void *q = realloc(p, size);
	if (q)
		c->memory += malloc_usable_size(q) - before;
	return q;
}

/* --- streams --- */

static void touch(struct http2_session *c) {
	if (!c->fed)
		c->options.wants_output(c->options.ctx);
}

static void stream_free(struct http2_stream *s) {
	struct http2_session *c = s->session;
	list_unlink(&s->node);
	c->options.events->closed(s->call);
	http2_release(s);
	budget_give(&c->budget, s->body.size);
	buffer_deinit(&s->body);
	free(s);
}

static struct http2_stream *stream_of(struct http2_session *c, int32_t id) {
	return nghttp2_session_get_stream_user_data(c->nghttp2, id);
}

/* 0 or one of nghttp2's fatal errors. */
static int stream_open(struct http2_session *c, int32_t id) {
	struct http2_stream *s = calloc(1, sizeof(*s));
	if (!s)
		return nghttp2_submit_rst_stream(c->nghttp2, 0, id, NGHTTP2_REFUSED_STREAM);
	s->session = c;
	s->id = id;
	list_append(&c->streams, &s->node);
	s->call = c->options.events->open(c->options.owner, s, &c->head);
	if (s->call)
		return nghttp2_session_set_stream_user_data(c->nghttp2, id, s);
	list_unlink(&s->node);
	free(s);
	return nghttp2_submit_rst_stream(c->nghttp2, 0, id, NGHTTP2_REFUSED_STREAM);
}

/* --- what nghttp2 tells --- */

static bool is_request(const nghttp2_frame *frame) {
	return frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST;
}

static int fatal_only(int r) {
	return nghttp2_is_fatal(r) ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_begin_headers(nghttp2_session *n, const nghttp2_frame *frame, void *user) {
	struct http2_session *c = user;
	if (is_request(frame))
		head_reset(&c->head);
	return 0;
}

static int on_header(nghttp2_session *n, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
		     const uint8_t *value, size_t value_size, uint8_t flags, void *user) {
	struct http2_session *c = user;
	if (is_request(frame))
		head_add(&c->head, name, name_size, value, value_size);
	return 0;
}

static int pings_answer(struct http2_session *c) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < c->n_pings; i++)
		r = nghttp2_submit_ping(c->nghttp2, NGHTTP2_FLAG_ACK, c->pings[i]);
	c->n_pings = 0;
	return r;
}

static int on_ping(struct http2_session *c, const nghttp2_frame *frame) {
	int r = 0;
	if (frame->hd.flags & NGHTTP2_FLAG_ACK)
		return 0;
	if (c->n_pings == PINGS_HELD)
		r = pings_answer(c);
	memcpy(c->pings[c->n_pings++], frame->ping.opaque_data, PING_SIZE);
	return fatal_only(r);
}

/* All of a header block, or all of a DATA frame, is there. */
static int on_frame_recv(nghttp2_session *n, const nghttp2_frame *frame, void *user) {
	struct http2_session *c = user;
	if (frame->hd.type == NGHTTP2_PING)
		return on_ping(c, frame);
	if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA)
		return 0;
	if (is_request(frame)) {
		int r = head_finish(&c->head) == HEAD_MALFORMED
			    ? nghttp2_submit_rst_stream(n, 0, frame->hd.stream_id, NGHTTP2_PROTOCOL_ERROR)
			    : stream_open(c, frame->hd.stream_id);
		if (r < 0)
			return fatal_only(r);
	}
	struct http2_stream *s = stream_of(c, frame->hd.stream_id);
	if (s && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		c->options.events->end(s->call);
	return 0;
}

static int on_data_chunk(nghttp2_session *n, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *user) {
	struct http2_session *c = user;
	struct http2_stream *s = stream_of(c, id);
	bool by_hand = s && s->by_hand;
	if (s)
		c->options.events->data(s->call, data, size);
	int r = nghttp2_session_consume_connection(n, size);
	if (r == 0 && !by_hand)
		r = nghttp2_session_consume_stream(n, id, size);
	return fatal_only(r);
}

static int on_stream_close(nghttp2_session *n, int32_t id, uint32_t error, void *user) {
	struct http2_stream *s = stream_of(user, id);
	if (s)
		stream_free(s);
	return 0;
}

/* A reply that ended before its request did: the client is to stop sending. */
static int on_frame_send(nghttp2_session *n, const nghttp2_frame *frame, void *user) {
	if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
	    nghttp2_session_get_stream_remote_close(n, frame->hd.stream_id) != 0)
		return 0;
	return fatal_only(nghttp2_submit_rst_stream(n, 0, frame->hd.stream_id, NGHTTP2_NO_ERROR));
}

static void make_fields(nghttp2_nv ret_nv[HTTP2_FIELDS_MAX], const struct http2_field *fields, size_t n) {
	for (size_t i = 0; i < n; i++)
		ret_nv[i] = (nghttp2_nv){
			.name = (uint8_t *)fields[i].name,
			.namelen = strlen(fields[i].name),
			.value = (uint8_t *)fields[i].value,
			.valuelen = strlen(fields[i].value),
		};
}

static int submit_trailers(struct http2_stream *s) {
	struct http2_session *c = s->session;
	struct http2_field fields[HTTP2_FIELDS_MAX] = { 0 };
	nghttp2_nv nv[HTTP2_FIELDS_MAX];
	size_t n = c->options.events->trailers(s->call, fields);
	make_fields(nv, fields, n);
	return nghttp2_submit_trailer(c->nghttp2, s->id, nv, n);
}

/* How much of the body goes into the next frame; no byte is copied here. */
static ssize_t read_body(nghttp2_session *n, int32_t id, uint8_t *buf, size_t length, uint32_t *data_flags,
			 nghttp2_data_source *source, void *user) {
	struct http2_stream *s = source->ptr;
	size_t left = s->body.size - s->body_sent;
	if (left == 0 && !s->finished)
		return NGHTTP2_ERR_DEFERRED;
	*data_flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (left <= length && s->finished) {
		*data_flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (submit_trailers(s) < 0)
			return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	}
	return (ssize_t)MIN(left, length);
}

/* The frame of which read_body told the size; now, or when there is room. */
static int send_data(nghttp2_session *n, nghttp2_frame *frame, const uint8_t *header, size_t length,
		     nghttp2_data_source *source, void *user) {
	struct http2_session *c = user;
	struct http2_stream *s = source->ptr;
	if (c->out->size >= c->out_max)
		return NGHTTP2_ERR_WOULDBLOCK;
	buffer_add(c->out, header, 9);
	buffer_add(c->out, s->body.data + s->body_sent, length);
	s->body_sent += length;
	if (s->body_sent == s->body.size) {
		budget_give(&c->budget, s->body.size);
		buffer_deinit(&s->body);
		s->body_sent = 0;
		c->options.events->room(s->call);
	}
	return c->out->failed ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* --- sessions --- */

static int make_callbacks(nghttp2_session_callbacks **ret_callbacks) {
	nghttp2_session_callbacks *cb;
	if (nghttp2_session_callbacks_new(&cb) < 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame_recv);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data_chunk);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_frame_send);
	nghttp2_session_callbacks_set_send_data_callback(cb, send_data);
	*ret_callbacks = cb;
	return 0;
}

/* Rate of resets and number of CONTINUATION frames keep nghttp2's own limits. */
static int make_options(nghttp2_option **ret_options) {
	nghttp2_option *o;
	if (nghttp2_option_new(&o) < 0)
		return -ENOMEM;
	nghttp2_option_set_no_http_messaging(o, 1); /* head.c judges */
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_auto_ping_ack(o, 1);
	*ret_options = o;
	return 0;
}

static int make_nghttp2(struct http2_session *c) {
	nghttp2_session_callbacks *callbacks = NULL;
	nghttp2_option *options = NULL;
	nghttp2_mem memory = {
		.mem_user_data = c,
		.malloc = memory_malloc,
		.free = memory_free,
		.calloc = memory_calloc,
		.realloc = memory_realloc,
	};
	int r = make_callbacks(&callbacks);
	if (r == 0)
		r = make_options(&options);
	if (r == 0 && nghttp2_session_server_new3(&c->nghttp2, callbacks, c, options, &memory) < 0)
		r = -ENOMEM;
	nghttp2_option_del(options);
	nghttp2_session_callbacks_del(callbacks);
	return r;
}

static int submit_settings(struct http2_session *c) {
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEAD_SIZE_MAX },
		{ NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
	};
	if (nghttp2_submit_settings(c->nghttp2, 0, settings, ARRAY_SIZE(settings)) < 0 ||
	    nghttp2_session_set_local_window_size(c->nghttp2, 0, 0, CONNECTION_WINDOW) < 0)
		return -ENOMEM;
	return 0;
}

int http2_session_new(const struct http2_options *options, struct http2_session **ret_session) {
	struct http2_session *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->options = *options;
	c->budget = (struct budget){ .limit = CONNECTION_BUDGET, .parent = options->budget };
	list_init(&c->streams);
	int r = make_nghttp2(c);
	if (r == 0)
		r = submit_settings(c);
	if (r < 0) {
		http2_session_free(c);
		return r;
	}
	*ret_session = c;
	return 0;
}

void http2_session_free(struct http2_session *c) {
	if (!c)
		return;
	c->fed = true; /* nobody wants output any more */
	list_for_each_safe (it, &c->streams)
		stream_free(list_entry(it, struct http2_stream, node));
	nghttp2_session_del(c->nghttp2);
	head_deinit(&c->head);
	free(c);
}

int http2_input(struct http2_session *c, const uint8_t *data, size_t size) {
	c->fed = true;
	ssize_t r = nghttp2_session_mem_recv(c->nghttp2, data, size);
	c->fed = false;
	return r < 0 ? -EPROTO : 0;
}

int http2_output(struct http2_session *c, struct buffer *out, size_t max) {
	size_t before;
	c->out = out;
	c->out_max = max;
	if (pings_answer(c) < 0)
		return -EPROTO;
	do {
		const uint8_t *data;
		before = out->size;
		ssize_t n = nghttp2_session_mem_send(c->nghttp2, &data);
		if (n < 0)
			return n == NGHTTP2_ERR_NOMEM ? -ENOMEM : -EPROTO;
		buffer_add(out, data, (size_t)n);
		if (out->failed)
			return -ENOMEM;
	} while (out->size > before && out->size < max);
	return 0;
}

bool http2_over(const struct http2_session *c) {
	return !nghttp2_session_want_read(c->nghttp2) && !nghttp2_session_want_write(c->nghttp2);
}

bool http2_can_wait(const struct http2_session *c) {
	return c->n_pings > 0 && !nghttp2_session_want_write(c->nghttp2);
}

size_t http2_backlog(const struct http2_session *c) {
	return nghttp2_session_get_outbound_queue_size(c->nghttp2);
}

void http2_goaway(struct http2_session *c) {
	int32_t last = nghttp2_session_get_last_proc_stream_id(c->nghttp2);
	if (nghttp2_submit_goaway(c->nghttp2, 0, last, NGHTTP2_NO_ERROR, NULL, 0) == 0)
		touch(c);
}

/* --- replies --- */

int http2_respond(struct http2_stream *s, const struct http2_field *fields, size_t n, bool end) {
	nghttp2_nv nv[HTTP2_FIELDS_MAX];
	nghttp2_data_provider body = { .source.ptr = s, .read_callback = read_body };
	if (n > HTTP2_FIELDS_MAX)
		return -EINVAL;
	make_fields(nv, fields, n);
	int r = nghttp2_submit_response(s->session->nghttp2, s->id, nv, n, end ? NULL : &body);
	if (r < 0)
		return -ENOMEM;
	touch(s->session);
	return 0;
}

/* A deferred body has something to read again; when none is deferred nghttp2
 * says invalid argument, which is fine. */
static void resume(struct http2_stream *s) {
	nghttp2_session_resume_data(s->session->nghttp2, s->id);
	touch(s->session);
}

int http2_send(struct http2_stream *s, struct buffer *data) {
	struct buffer taken CLEANUP_BUFFER = buffer_take(data);
	if (taken.failed)
		return -ENOMEM;
	if (!budget_take(&s->session->budget, taken.size))
		return -ENOBUFS;
	if (s->body.size == 0) {
		buffer_deinit(&s->body);
		s->body = buffer_take(&taken);
	} else {
		buffer_add(&s->body, taken.data, taken.size);
		if (s->body.failed) {
			s->body.failed = false;
			budget_give(&s->session->budget, taken.size);
			return -ENOMEM;
		}
	}
	resume(s);
	return 0;
}

const struct credentials *http2_peer(const struct http2_stream *s) {
	return &s->session->options.peer;
}

size_t http2_unsent(const struct http2_stream *s) {
	return s->body.size - s->body_sent;
}

void http2_finish(struct http2_stream *s) {
	s->finished = true;
	resume(s);
}

void http2_reset(struct http2_stream *s, enum http2_error error) {
	if (nghttp2_submit_rst_stream(s->session->nghttp2, 0, s->id, error) == 0)
		touch(s->session);
}

void http2_windows_by_hand(struct http2_stream *s) {
	s->by_hand = true;
}

void http2_consumed(struct http2_stream *s, size_t bytes) {
	if (nghttp2_session_consume_stream(s->session->nghttp2, s->id, bytes) == 0)
		touch(s->session);
}

bool http2_hold(struct http2_stream *s, size_t bytes) {
	if (!budget_take(&s->session->budget, bytes))
		return false;
	s->held += bytes;
	return true;
}

void http2_release(struct http2_stream *s) {
	budget_give(&s->session->budget, s->held);
	s->held = 0;
}
