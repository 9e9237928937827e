#include "tools/client/client.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MESSAGE_MAX (64u * 1024 * 1024)

/* The call in progress. */
struct call {
	int32_t stream;
	struct buffer request, reply;
	size_t sent;
	bool closed;
	int grpc_status; /* -1: none seen */
	char message[FAULT_TEXT_MAX];
	uint32_t reset; /* HTTP/2 error code of a reset */
	int http_status;
};

struct client {
	int fd;
	nghttp2_session *session;
	struct call *call;
};

static ssize_t on_send(nghttp2_session *s, const uint8_t *data, size_t size, int flags, void *ctx) {
	struct client *c = ctx;
	ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? NGHTTP2_ERR_WOULDBLOCK : NGHTTP2_ERR_CALLBACK_FAILURE;
	return n;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t stream, const uint8_t *data, size_t size, void *ctx) {
	struct client *c = ctx;
	if (c->call && c->call->stream == stream && c->call->reply.size + size <= MESSAGE_MAX + 5)
		buffer_add(&c->call->reply, data, size);
	return 0;
}

/* gRPC percent-encodes what isn't printable ASCII in grpc-message. */
static void percent_decode(const uint8_t *value, size_t size, char *ret_text, size_t room) {
	size_t n = 0;
	for (size_t i = 0; i < size && n + 1 < room; i++) {
		unsigned byte;
		char hex[3] = { 0 };
		if (value[i] == '%' && i + 2 < size) {
			memcpy(hex, value + i + 1, 2);
			if (sscanf(hex, "%2x", &byte) == 1) {
				ret_text[n++] = (char)byte;
				i += 2;
				continue;
			}
		}
		ret_text[n++] = (char)value[i];
	}
	ret_text[n] = '\0';
}

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
		     const uint8_t *value, size_t value_size, uint8_t flags, void *ctx) {
	struct call *call = ((struct client *)ctx)->call;
	if (!call || frame->hd.stream_id != call->stream)
		return 0;
	if (name_size == 11 && memcmp(name, "grpc-status", 11) == 0)
		call->grpc_status = atoi((const char *)value);
	else if (name_size == 12 && memcmp(name, "grpc-message", 12) == 0)
		percent_decode(value, value_size, call->message, sizeof(call->message));
	else if (name_size == 7 && memcmp(name, ":status", 7) == 0)
		call->http_status = atoi((const char *)value);
	return 0;
}

static int on_close(nghttp2_session *s, int32_t stream, uint32_t error, void *ctx) {
	struct call *call = ((struct client *)ctx)->call;
	if (call && call->stream == stream) {
		call->closed = true;
		call->reset = error;
	}
	return 0;
}

static ssize_t on_body(nghttp2_session *s, int32_t stream, uint8_t *buf, size_t room, uint32_t *flags,
		       nghttp2_data_source *source, void *ctx) {
	struct call *call = source->ptr;
	size_t n = MIN(room, call->request.size - call->sent);
	memcpy(buf, call->request.data + call->sent, n);
	call->sent += n;
	if (call->sent == call->request.size)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static int session_new(struct client *c) {
	nghttp2_session_callbacks *callbacks;
	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	int r = nghttp2_session_client_new(&c->session, callbacks, c);
	nghttp2_session_callbacks_del(callbacks);
	if (r != 0)
		return -ENOMEM;
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4 * 1024 * 1024 },
	};
	nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, 16 * 1024 * 1024);
	return 0;
}

int client_open(const char *path, struct client **ret_client, struct fault *fault) {
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (strncmp(path, "unix://", 7) == 0)
		path += 7;
	if (strlen(path) >= sizeof(address.sun_path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "socket path \"%s\" is too long", path);
	strcpy(address.sun_path, path);
	struct client *c = calloc(1, sizeof(*c));
	if (!c)
		return fault_errno(fault, ENOMEM, "connect to \"%s\"", path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int r = fault_errno(fault, errno, "connect to \"%s\"", path);
		client_close(c);
		return r;
	}
	if (session_new(c) < 0) {
		client_close(c);
		return fault_errno(fault, ENOMEM, "connect to \"%s\"", path);
	}
	*ret_client = c;
	return 0;
}

void client_close(struct client *c) {
	if (!c)
		return;
	nghttp2_session_del(c->session);
	fd_close(c->fd);
	free(c);
}

static int call_submit(struct client *c, struct call *call, const char *method, int64_t timeout_ns) {
	char timeout[32];
	snprintf(timeout, sizeof(timeout), "%lldm", (long long)MAX(timeout_ns / NS_PER_MS, INT64_C(1)));
#define HEADER(n, v) \
	{ (uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), NGHTTP2_NV_FLAG_NONE }
	const nghttp2_nv headers[] = {
		HEADER(":method", "POST"),
		HEADER(":scheme", "http"),
		HEADER(":path", method),
		HEADER(":authority", "localhost"),
		HEADER("content-type", "application/grpc"),
		HEADER("te", "trailers"),
		HEADER("user-agent", "bulkhead-tools"),
		HEADER("grpc-timeout", timeout),
	};
	nghttp2_data_provider body = { .source.ptr = call, .read_callback = on_body };
	call->stream =
	    nghttp2_submit_request(c->session, NULL, headers, ARRAY_SIZE(headers) - (timeout_ns ? 0 : 1), &body, NULL);
	return call->stream < 0 ? -ENOMEM : 0;
}

/* Hands out the messages that are whole. */
static int call_messages(struct call *call, const ProtobufCMessageDescriptor *type, client_message_fn fn, void *ctx,
			 struct fault *fault) {
	while (call->reply.size >= 5) {
		const uint8_t *p = call->reply.data;
		uint32_t size = (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
		if (p[0] != 0 || size > MESSAGE_MAX)
			return fault_set(fault, FAULT_INTERNAL, "the server sent a message that is no gRPC");
		if (call->reply.size - 5 < size)
			return 0;
		ProtobufCMessage *m = protobuf_c_message_unpack(type, NULL, size, p + 5);
		if (!m)
			return fault_set(fault, FAULT_INTERNAL, "the server sent a malformed %s", type->name);
		buffer_consume(&call->reply, 5 + (size_t)size);
		if (fn(ctx, m) != 0)
			return fault_set(fault, FAULT_CANCELLED, "cancelled");
	}
	return 0;
}

static int receive_some(struct client *c, const char *method, int64_t deadline, struct fault *fault) {
	struct pollfd p = { c->fd, POLLIN, 0 };
	int wait = -1;
	if (deadline)
		wait = (int)MIN(MAX((deadline - clock_mono()) / NS_PER_MS + 1, INT64_C(0)), INT64_C(1000000));
	int n = poll(&p, 1, wait);
	if (n == 0)
		return fault_set(fault, FAULT_DEADLINE_EXCEEDED, "%s: no answer in time", method);
	uint8_t data[16384];
	ssize_t got = recv(c->fd, data, sizeof(data), 0);
	if (got < 0 && errno == EINTR)
		return 0;
	if (got <= 0)
		return fault_set(fault, FAULT_UNAVAILABLE, "%s: the server closed the connection", method);
	if (nghttp2_session_mem_recv(c->session, data, (size_t)got) < 0)
		return fault_set(fault, FAULT_INTERNAL, "%s: the server doesn't speak HTTP/2", method);
	return 0;
}

static int call_run(struct client *c, struct call *call, const char *method, int64_t timeout_ns,
		    const ProtobufCMessageDescriptor *type, client_message_fn fn, void *ctx, struct fault *fault) {
	/* A little more than the server's own patience, so that its sentence wins. */
	int64_t deadline = timeout_ns ? clock_mono() + timeout_ns + NS_PER_SEC : 0;
	for (;;) {
		if (nghttp2_session_send(c->session) != 0)
			return fault_set(fault, FAULT_UNAVAILABLE, "%s: the server closed the connection", method);
		int r = call_messages(call, type, fn, ctx, fault);
		if (r < 0) {
			nghttp2_submit_rst_stream(c->session, NGHTTP2_FLAG_NONE, call->stream, NGHTTP2_CANCEL);
			nghttp2_session_send(c->session);
			return r;
		}
		if (call->closed)
			break;
		r = receive_some(c, method, deadline, fault);
		if (r < 0)
			return r;
	}
	if (call->grpc_status == 0)
		return 0;
	if (call->grpc_status > 0)
		return fault_set(fault, (enum fault_code)call->grpc_status, "%s", call->message);
	return fault_set(fault, FAULT_UNAVAILABLE, "%s: the server reset the stream (HTTP status %d, error %u)", method,
			 call->http_status, call->reset);
}

int client_stream(struct client *c, const char *method, const ProtobufCMessage *request,
		  const ProtobufCMessageDescriptor *reply_type, int64_t timeout_ns, client_message_fn fn, void *ctx,
		  struct fault *fault) {
	struct call call = { .grpc_status = -1 };
	size_t size = protobuf_c_message_get_packed_size(request);
	const uint8_t prefix[5] = { 0, (uint8_t)(size >> 24), (uint8_t)(size >> 16), (uint8_t)(size >> 8),
				    (uint8_t)size };
	buffer_add(&call.request, prefix, sizeof(prefix));
	uint8_t *p = buffer_reserve(&call.request, size + 1);
	int r;
	if (!p) {
		r = fault_errno(fault, ENOMEM, "%s", method);
	} else {
		call.request.size += protobuf_c_message_pack(request, p);
		c->call = &call;
		r = call_submit(c, &call, method, timeout_ns);
		if (r < 0)
			fault_errno(fault, r, "%s", method);
		else
			r = call_run(c, &call, method, timeout_ns, reply_type, fn, ctx, fault);
		c->call = NULL;
	}
	buffer_deinit(&call.request);
	buffer_deinit(&call.reply);
	return r;
}

struct unary {
	ProtobufCMessage *reply;
};

static int unary_message(void *ctx, ProtobufCMessage *m) {
	struct unary *u = ctx;
	if (u->reply) {
		protobuf_c_message_free_unpacked(m, NULL);
		return -EPROTO;
	}
	u->reply = m;
	return 0;
}

int client_call(struct client *c, const char *method, const ProtobufCMessage *request,
		const ProtobufCMessageDescriptor *reply_type, int64_t timeout_ns, ProtobufCMessage **ret_reply,
		struct fault *fault) {
	struct unary u = { 0 };
	int r = client_stream(c, method, request, reply_type, timeout_ns, unary_message, &u, fault);
	if (r == 0 && !u.reply)
		r = fault_set(fault, FAULT_INTERNAL, "%s: the server answered with no message", method);
	if (r < 0) {
		if (u.reply)
			protobuf_c_message_free_unpacked(u.reply, NULL);
		return r;
	}
	*ret_reply = u.reply;
	return 0;
}
