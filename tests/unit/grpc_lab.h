/*
 * The gRPC front without sockets: nghttp2's client on one side, a fake metadata
 * worker on the other, the real sessions and calls between them.
 */
#pragma once

#include "tests/unit/fake_metadata.h"
#include "tests/unit/tap.h"
#include "workers/api/frame.h"
#include "workers/api/http2.h"
#include "workers/api/services.h"

#include "base/clock.h"
#include "base/log.h"

#include <nghttp2/nghttp2.h>

/* What came back on one stream. */
struct reply {
	struct buffer body;
	char http[8], status[8], message[4096];
	bool closed;
	uint32_t reset;
	const struct buffer *send; /* the request's body */
	size_t sent;
	bool hold_open; /* never half-close */
};

struct fixture {
	struct loop *loop;
	struct fake fake;
	struct grpc_server grpc;
	struct budget budget;
	struct credentials peer; /* who the client is */
	struct http2_session *server;
	nghttp2_session *client;
	bool goaway;
};

/* --- the client --- */

static inline int client_header(nghttp2_session *n, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
				const uint8_t *value, size_t value_size, uint8_t flags, void *user) {
	struct reply *r = nghttp2_session_get_stream_user_data(n, frame->hd.stream_id);
	struct {
		const char *name;
		char *to;
		size_t room;
	} wanted[] = {
		{ ":status", r->http, sizeof(r->http) },
		{ "grpc-status", r->status, sizeof(r->status) },
		{ "grpc-message", r->message, sizeof(r->message) },
	};
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
		if (strcmp(wanted[i].name, (const char *)name) == 0)
			snprintf(wanted[i].to, wanted[i].room, "%s", (const char *)value);
	return 0;
}

static inline int client_data(nghttp2_session *n, uint8_t flags, int32_t id, const uint8_t *data, size_t size,
			      void *user) {
	struct reply *r = nghttp2_session_get_stream_user_data(n, id);
	buffer_add(&r->body, data, size);
	return 0;
}

static inline int client_closed(nghttp2_session *n, int32_t id, uint32_t error, void *user) {
	struct reply *r = nghttp2_session_get_stream_user_data(n, id);
	r->closed = true;
	r->reset = error;
	return 0;
}

static inline int client_frame(nghttp2_session *n, const nghttp2_frame *frame, void *user) {
	struct fixture *f = user;
	f->goaway |= frame->hd.type == NGHTTP2_GOAWAY;
	return 0;
}

static inline ssize_t client_body(nghttp2_session *n, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
				  nghttp2_data_source *source, void *user) {
	struct reply *r = source->ptr;
	size_t k = MIN(length, r->send->size - r->sent);
	if (k == 0 && r->hold_open)
		return NGHTTP2_ERR_DEFERRED;
	if (k > 0)
		memcpy(buf, r->send->data + r->sent, k);
	r->sent += k;
	if (r->sent == r->send->size && !r->hold_open)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)k;
}

static inline void client_new(struct fixture *f) {
	nghttp2_session_callbacks *cb;
	nghttp2_option *o;
	nghttp2_session_callbacks_new(&cb);
	nghttp2_session_callbacks_set_on_header_callback(cb, client_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, client_data);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, client_closed);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, client_frame);
	nghttp2_option_new(&o);
	nghttp2_option_set_no_http_messaging(o, 1);
	nghttp2_session_client_new2(&f->client, cb, f, o);
	nghttp2_option_del(o);
	nghttp2_session_callbacks_del(cb);
	nghttp2_submit_settings(f->client, 0, NULL, 0);
}

/* --- both sides --- */

static inline void wants_output(void *ctx) {
}

static inline void session_open(struct fixture *f) {
	void *session;
	const struct protocol_options options = {
		.owner = &f->grpc,
		.wants_output = wants_output,
		.budget = &f->budget,
		.peer = f->peer,
	};
	if (protocol_grpc.open(&options, &session) < 0)
		abort();
	f->server = session;
	client_new(f);
}

static inline void session_close(struct fixture *f) {
	http2_session_free(f->server);
	nghttp2_session_del(f->client);
	f->goaway = false;
}

static inline void open_all(struct fixture *f) {
	static const struct loop_options options = { .buffers = 8, .buffer_size = 4096 };
	*f = (struct fixture){ .budget = { .limit = (size_t)256 << 20 } };
	if (loop_new(&options, &f->loop) < 0 || loop_enable(f->loop, NULL, 0) < 0 || fake_init(&f->fake, f->loop) < 0)
		abort();
	f->grpc = (struct grpc_server){ .loop = f->loop,
					.metadata = f->fake.api,
					.endpoint = &fake_endpoint,
					.services = services,
					.next_request = 7 };
	session_open(f);
}

static inline void close_all(struct fixture *f) {
	session_close(f);
	fake_deinit(&f->fake);
	for (int i = 0; i < 3; i++)
		loop_turn(f->loop, 0);
	loop_free(f->loop);
}

/* Carries bytes both ways and turns the loop until the stream is closed, or a
 * while has passed. */
static inline void run(struct fixture *f, struct reply *r, int turns) {
	for (int i = 0; i < turns && !(r && r->closed); i++) {
		const uint8_t *data;
		ssize_t n;
		struct buffer out CLEANUP_BUFFER = { 0 };
		while ((n = nghttp2_session_mem_send(f->client, &data)) > 0)
			if (http2_input(f->server, data, (size_t)n) < 0)
				return;
		loop_turn(f->loop, NS_PER_MS);
		if (http2_output(f->server, &out, 65536) < 0)
			return;
		if (out.size > 0 && nghttp2_session_mem_recv(f->client, out.data, out.size) < 0)
			return;
	}
}

struct extra {
	const char *name, *value;
};

static inline int32_t submit(struct fixture *f, struct reply *r, const char *path, const struct buffer *body,
			     const struct extra *extra, size_t n_extra) {
	struct extra fields[16] = {
		{ ":method", "POST" },
		{ ":scheme", "http" },
		{ ":path", path },
		{ ":authority", "/run/x.sock" },
		{ "content-type", "application/grpc" },
		{ "te", "trailers" },
	};
	nghttp2_nv nv[16];
	size_t n = 6;
	for (size_t i = 0; i < n_extra; i++) {
		size_t k = 0;
		while (k < n && strcmp(fields[k].name, extra[i].name) != 0)
			k++;
		n = MAX(n, k + 1);
		fields[k] = extra[i];
	}
	for (size_t i = 0; i < n; i++)
		nv[i] = (nghttp2_nv){ (uint8_t *)fields[i].name, (uint8_t *)fields[i].value, strlen(fields[i].name),
				      strlen(fields[i].value), 0 };
	r->send = body;
	nghttp2_data_provider provider = { .source.ptr = r, .read_callback = client_body };
	return nghttp2_submit_request(f->client, NULL, nv, n, &provider, r);
}

static inline struct buffer framed(const ProtobufCMessage *m) {
	struct buffer b = { 0 };
	size_t size = protobuf_c_message_get_packed_size(m);
	uint8_t *p = buffer_reserve(&b, FRAME_PREFIX + size);
	frame_prefix(p, size);
	protobuf_c_message_pack(m, p + FRAME_PREFIX);
	b.size = FRAME_PREFIX + size;
	return b;
}

static inline struct buffer status_request(const char *id) {
	Runtime__V1__ContainerStatusRequest m = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	m.container_id = (char *)id;
	return framed(&m.base);
}

static inline void reply_reset(struct reply *r) {
	buffer_deinit(&r->body);
	*r = (struct reply){ 0 };
}

static inline void ask(struct fixture *f, struct reply *r, const char *path, struct buffer body, const char *name,
		       const char *value) {
	struct extra extra = { name, value };
	reply_reset(r);
	submit(f, r, path, &body, &extra, name ? 1 : 0);
	run(f, r, 200);
	buffer_deinit(&body);
}

static inline bool failed(const struct reply *r, enum fault_code code, const char *part) {
	return r->closed && atoi(r->status) == (int)code && strcmp(r->http, "200") == 0 && strstr(r->message, part);
}
