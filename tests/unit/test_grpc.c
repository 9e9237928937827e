/*
 * The gRPC front without sockets: nghttp2's client on one side, a fake
 * metadata worker on the other, the real sessions and calls between them. Run from the top folder.
 */
#include "tests/unit/fake_metadata.h"
#include "tests/unit/tap.h"
#include "workers/api/frame.h"
#include "workers/api/services.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"

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
	struct http2_session *server;
	nghttp2_session *client;
	bool goaway;
};

/* --- the client --- */

static int client_header(nghttp2_session *n, const nghttp2_frame *frame, const uint8_t *name, size_t name_size,
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

static int client_data(nghttp2_session *n, uint8_t flags, int32_t id, const uint8_t *data, size_t size, void *user) {
	struct reply *r = nghttp2_session_get_stream_user_data(n, id);
	buffer_add(&r->body, data, size);
	return 0;
}

static int client_closed(nghttp2_session *n, int32_t id, uint32_t error, void *user) {
	struct reply *r = nghttp2_session_get_stream_user_data(n, id);
	r->closed = true;
	r->reset = error;
	return 0;
}

static int client_frame(nghttp2_session *n, const nghttp2_frame *frame, void *user) {
	struct fixture *f = user;
	f->goaway |= frame->hd.type == NGHTTP2_GOAWAY;
	return 0;
}

static ssize_t client_body(nghttp2_session *n, int32_t id, uint8_t *buf, size_t length, uint32_t *flags,
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

static void client_new(struct fixture *f) {
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

static void wants_output(void *ctx) {
}

static void session_open(struct fixture *f) {
	struct http2_options options = {
		.events = &grpc_events,
		.owner = &f->grpc,
		.wants_output = wants_output,
		.budget = &f->budget,
	};
	if (http2_session_new(&options, &f->server) < 0)
		abort();
	client_new(f);
}

static void session_close(struct fixture *f) {
	http2_session_free(f->server);
	nghttp2_session_del(f->client);
	f->goaway = false;
}

static void open_all(struct fixture *f) {
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

static void close_all(struct fixture *f) {
	session_close(f);
	fake_deinit(&f->fake);
	for (int i = 0; i < 3; i++)
		loop_turn(f->loop, 0);
	loop_free(f->loop);
}

/* Carries bytes both ways and turns the loop until the stream is closed, or a
 * while has passed. */
static void run(struct fixture *f, struct reply *r, int turns) {
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

static int32_t submit(struct fixture *f, struct reply *r, const char *path, const struct buffer *body,
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

static struct buffer framed(const ProtobufCMessage *m) {
	struct buffer b = { 0 };
	size_t size = protobuf_c_message_get_packed_size(m);
	uint8_t *p = buffer_reserve(&b, FRAME_PREFIX + size);
	frame_prefix(p, size);
	protobuf_c_message_pack(m, p + FRAME_PREFIX);
	b.size = FRAME_PREFIX + size;
	return b;
}

static struct buffer status_request(const char *id) {
	Runtime__V1__ContainerStatusRequest m = RUNTIME__V1__CONTAINER_STATUS_REQUEST__INIT;
	m.container_id = (char *)id;
	return framed(&m.base);
}

static void reply_reset(struct reply *r) {
	buffer_deinit(&r->body);
	*r = (struct reply){ 0 };
}

#define STATUS_PATH "/runtime.v1.RuntimeService/ContainerStatus"

static void ask(struct fixture *f, struct reply *r, const char *path, struct buffer body, const char *name,
		const char *value) {
	struct extra extra = { name, value };
	reply_reset(r);
	submit(f, r, path, &body, &extra, name ? 1 : 0);
	run(f, r, 200);
	buffer_deinit(&body);
}

static bool failed(const struct reply *r, enum fault_code code, const char *part) {
	return r->closed && atoi(r->status) == (int)code && strcmp(r->http, "200") == 0 && strstr(r->message, part);
}

/* --- the tests --- */

static void test_version(struct fixture *f, struct reply *r) {
	static const char *const versions[] = { "v1", "v1alpha2" };
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		Runtime__V1__VersionRequest m = RUNTIME__V1__VERSION_REQUEST__INIT;
		char path[64];
		snprintf(path, sizeof(path), "/runtime.%s.RuntimeService/Version", versions[i]);
		ask(f, r, path, framed(&m.base), NULL, NULL);
		Runtime__V1__VersionResponse *v =
		    r->body.size < FRAME_PREFIX ? NULL
						: runtime__v1__version_response__unpack(
						      NULL, r->body.size - FRAME_PREFIX, r->body.data + FRAME_PREFIX);
		tap_check(v && strcmp(r->status, "0") == 0 && strcmp(v->version, "0.1.0") == 0 &&
			      strcmp(v->runtime_name, "bulkhead") == 0 &&
			      strcmp(v->runtime_version, BULKHEAD_VERSION) == 0 &&
			      strcmp(v->runtime_api_version, versions[i]) == 0,
			  "Version under %s", versions[i]);
		if (v)
			runtime__v1__version_response__free_unpacked(v, NULL);
	}
}

static void test_call(struct fixture *f, struct reply *r) {
	ask(f, r, STATUS_PATH, status_request("web"), "traceparent",
	    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	Runtime__V1__ContainerStatusResponse *s =
	    r->body.size < FRAME_PREFIX ? NULL
					: runtime__v1__container_status_response__unpack(
					      NULL, r->body.size - FRAME_PREFIX, r->body.data + FRAME_PREFIX);
	tap_check(s && s->status && strcmp(s->status->id, "web") == 0 && strcmp(r->status, "0") == 0,
		  "a call goes to the metadata worker and back");
	if (s)
		runtime__v1__container_status_response__free_unpacked(s, NULL);
	tap_check(f->fake.last.trace[0] == 0x0af7651916cd43dd && f->fake.last.request != 0,
		  "the trace and a request id ride with it");
	ask(f, r, STATUS_PATH, status_request("big"), NULL, NULL);
	tap_check(r->body.size > 2u << 20 && strcmp(r->status, "0") == 0, "a reply of 2 MiB");
	ask(f, r, STATUS_PATH, status_request("missing"), NULL, NULL);
	tap_check(failed(r, FAULT_NOT_FOUND, "container \"missing\": 100%25 gone, caf%C3%A9"),
		  "an error keeps its code and its sentence, percent-encoded");
}

static void test_stream(struct fixture *f, struct reply *r) {
	Bulkhead__V1__PullRequest m = BULKHEAD__V1__PULL_REQUEST__INIT;
	m.image = (char *)"busybox";
	ask(f, r, "/bulkhead.v1.Admin/Pull", framed(&m.base), NULL, NULL);
	tap_check(strcmp(r->status, "0") == 0 && r->body.size == 4 * 5 + 5 + 10, "five replies of a stream");
	m.image = (char *)"broken";
	ask(f, r, "/bulkhead.v1.Admin/Pull", framed(&m.base), NULL, NULL);
	tap_check(failed(r, FAULT_UNAVAILABLE, "the registry is away") && r->body.size == 4 * 5,
		  "a stream that fails after four replies");
}

static void test_refusals(struct fixture *f, struct reply *r) {
	struct buffer none = { 0 };
	ask(f, r, "/runtime.v1.RuntimeService/Nonsense", status_request("x"), NULL, NULL);
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "unknown method Nonsense of service runtime.v1.RuntimeService"),
		  "an unknown method is named");
	ask(f, r, "/a.B/C", status_request("x"), NULL, NULL);
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "unknown service a.B"), "an unknown service is named");
	ask(f, r, "*", status_request("x"), NULL, NULL);
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "path"), "a path of another form");
	ask(f, r, "/runtime.v1.RuntimeService/CheckpointPod", status_request("x"), NULL, NULL);
	tap_check(
	    failed(r, FAULT_UNIMPLEMENTED, "CheckpointPod of service runtime.v1.RuntimeService isn't implemented"),
	    "a method that isn't there yet says so");
	ask(f, r, STATUS_PATH, none, NULL, NULL);
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "no message"), "a call without a message");
	buffer_add(&none, "\0\0\0\0\3\n\1", 7);
	ask(f, r, STATUS_PATH, buffer_take(&none), NULL, NULL);
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "after 2 of 3 bytes"), "a message cut short");
	buffer_add(&none, "\0\0\0\0\3\n\1\xff", 8);
	ask(f, r, STATUS_PATH, buffer_take(&none), NULL, NULL);
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "runtime.v1.ContainerStatusRequest"), "a string that isn't UTF-8");
	buffer_add(&none, "\1\0\0\0\1x", 6);
	ask(f, r, STATUS_PATH, buffer_take(&none), "grpc-encoding", "gzip");
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "compressed"), "a compressed message");
	ask(f, r, STATUS_PATH, status_request("x"), ":method", "GET");
	tap_check(r->closed && strcmp(r->http, "405") == 0, "GET is 405");
	ask(f, r, STATUS_PATH, status_request("x"), "content-type", "text/html");
	tap_check(r->closed && strcmp(r->http, "415") == 0, "another content type is 415");
	ask(f, r, STATUS_PATH, status_request("x"), "bad name", "x");
	tap_check(r->closed && r->reset == NGHTTP2_PROTOCOL_ERROR, "a malformed head resets the stream");
	ask(f, r, STATUS_PATH, status_request("x"), "grpc-timeout", "soon");
	tap_check(failed(r, FAULT_INVALID_ARGUMENT, "soon"), "a timeout that is none");
	ask(f, r, STATUS_PATH, status_request("x"), "grpc-timeout", "0m");
	tap_check(failed(r, FAULT_DEADLINE_EXCEEDED, "passed"), "a deadline that has passed");
	char *value = calloc(1, HEAD_SIZE_MAX + 1);
	memset(value, 'v', HEAD_SIZE_MAX);
	ask(f, r, STATUS_PATH, status_request("x"), "x", value);
	tap_check(failed(r, FAULT_RESOURCE_EXHAUSTED, "header list"), "a header list that is too large");
	free(value);
	unsigned asked = f->fake.asked;
	ask(f, r, STATUS_PATH, status_request("web"), NULL, NULL);
	tap_check(f->fake.asked == asked + 1 && strcmp(r->status, "0") == 0,
		  "after all this the connection serves on, and none of it reached the metadata worker");
}

static struct buffer image_request(size_t size) {
	Runtime__V1__ImageSpec spec = RUNTIME__V1__IMAGE_SPEC__INIT;
	Runtime__V1__PullImageRequest m = RUNTIME__V1__PULL_IMAGE_REQUEST__INIT;
	spec.image = calloc(1, size + 1);
	memset(spec.image, 'i', size);
	m.image = &spec;
	struct buffer b = framed(&m.base);
	free(spec.image);
	return b;
}

static void test_sizes(struct fixture *f, struct reply *r) {
	size_t most = ((size_t)16 << 20) - 10;
	struct buffer body = image_request(most);
	while (body.size > FRAME_PREFIX + GRPC_MESSAGE_MAX) {
		buffer_deinit(&body);
		body = image_request(--most);
	}
	tap_check(body.size == FRAME_PREFIX + GRPC_MESSAGE_MAX, "a message of exactly 16 MiB can be made");
	reply_reset(r);
	submit(f, r, "/runtime.v1.ImageService/PullImage", &body, NULL, 0);
	run(f, r, 2000);
	char expected[16];
	snprintf(expected, sizeof(expected), "%zu", most);
	tap_check(strcmp(r->status, "0") == 0 && r->body.size > 7 &&
		      memcmp(r->body.data + 7, expected, strlen(expected)) == 0,
		  "a request of 16 MiB arrives whole");
	buffer_deinit(&body);
	body = image_request((size_t)17 << 20);
	reply_reset(r);
	submit(f, r, "/runtime.v1.ImageService/PullImage", &body, NULL, 0);
	run(f, r, 200);
	tap_check(failed(r, FAULT_RESOURCE_EXHAUSTED, "PullImage: the request has 1782") &&
		      strstr(r->message, "the limit is 16777216"),
		  "one of 17 MiB is refused with size and limit");
	tap_check(r->reset == NGHTTP2_NO_ERROR && r->sent < 2u << 20,
		  "and the client is told to stop sending (%zu sent)", r->sent);
	buffer_deinit(&body);
	ask(f, r, "/runtime.v1.RuntimeService/StopContainer", image_request(70000), NULL, NULL);
	tap_check(failed(r, FAULT_RESOURCE_EXHAUSTED, "the limit is 65536"), "a method's own limit");
	tap_check(f->budget.used == 0, "nothing is held afterwards");
}

static void test_giving_up(struct fixture *f, struct reply *r) {
	struct buffer body = status_request("slow");
	ask(f, r, STATUS_PATH, status_request("slow"), "grpc-timeout", "20m");
	tap_check(failed(r, FAULT_DEADLINE_EXCEEDED, "deadline"), "a deadline ends the call");
	run(f, NULL, 5);
	tap_check(f->fake.cancelled == 1, "and the metadata worker hears of it");
	reply_reset(r);
	int32_t id = submit(f, r, STATUS_PATH, &body, NULL, 0);
	run(f, r, 5);
	nghttp2_submit_rst_stream(f->client, 0, id, NGHTTP2_CANCEL);
	run(f, NULL, 5);
	tap_check(f->fake.cancelled == 2, "a reset cancels the call");
	reply_reset(r);
	r->hold_open = true;
	submit(f, r, STATUS_PATH, &body, &(struct extra){ "grpc-timeout", "20m" }, 1);
	run(f, r, 100);
	tap_check(failed(r, FAULT_DEADLINE_EXCEEDED, "before all of the request came"),
		  "a deadline ends a request that never becomes complete");
	reply_reset(r);
	submit(f, r, STATUS_PATH, &body, NULL, 0);
	run(f, r, 5);
	session_close(f);
	for (int i = 0; i < 3; i++)
		loop_turn(f->loop, NS_PER_MS);
	tap_check(f->fake.cancelled == 3 && r->closed == false, "a connection that dies cancels its calls");
	tap_check(f->budget.used == 0, "and gives back what it held");
	session_open(f);
	buffer_deinit(&body);
	reply_reset(r);
}

static void test_goaway(struct fixture *f, struct reply *r) {
	struct buffer body = status_request("slow");
	reply_reset(r);
	submit(f, r, STATUS_PATH, &body, NULL, 0);
	run(f, r, 5);
	http2_goaway(f->server);
	run(f, r, 5);
	tap_check(f->goaway && !http2_over(f->server) && !r->closed, "an open call survives GOAWAY");
	Runtime__V1__ContainerStatusResponse reply = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INIT;
	if (f->fake.waiting)
		cri_container_status_reply(f->fake.waiting, &reply, NULL, 0);
	run(f, r, 20);
	run(f, NULL, 2);
	tap_check(strcmp(r->status, "0") == 0 && http2_over(f->server), "is answered, and then the session is over");
	buffer_deinit(&body);
	session_close(f);
	session_open(f);
}

/* A client that reads nothing must not make the front hold more and more. */
static void test_unread(struct fixture *f, struct reply *r) {
	struct buffer body = status_request("big");
	struct reply *many = calloc(64, sizeof(*many));
	for (int i = 0; i < 64; i++)
		submit(f, &many[i], STATUS_PATH, &body, NULL, 0);
	const uint8_t *data;
	ssize_t n;
	while ((n = nghttp2_session_mem_send(f->client, &data)) > 0)
		if (http2_input(f->server, data, (size_t)n) < 0)
			break;
	for (int i = 0; i < 200; i++)
		loop_turn(f->loop, 0);
	tap_check(f->budget.used > 64u << 20 && f->budget.used <= 96u << 20,
		  "64 unread replies of 2 MiB: %zu MiB are held", f->budget.used >> 20);
	session_close(f);
	tap_check(f->budget.used == 0, "and let go with the connection");
	session_open(f);
	for (int i = 0; i < 64; i++)
		buffer_deinit(&many[i].body);
	free(many);
	buffer_deinit(&body);
}

static void test_garbage(struct fixture *f) {
	static const char http1[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	tap_check(http2_input(f->server, (const uint8_t *)http1, sizeof(http1) - 1) < 0, "HTTP/1.1 ends the session");
	session_close(f);
	session_open(f);
}

/* Whether the entry is in the page's section of that service: "## <name> ...",
 * which v1alpha2 shares with v1. */
static bool page_names(const char *page, const char *service, const char *entry) {
	char heading[128];
	snprintf(heading, sizeof(heading), "%s", service);
	const char *section = NULL, *p = page;
	while (!section && (p = strstr(p, "\n## "))) {
		p++;
		size_t line = strcspn(p, "\n");
		const char *name = memmem(p, line, heading, strlen(heading));
		if (name && (name[-1] == ' ' || name[-1] == '('))
			section = p + line;
	}
	const char *end = section ? strstr(section, "\n## ") : NULL;
	const char *found = section ? strstr(section, entry) : NULL;
	return found && (!end || found < end);
}

/* The table of methods and the services' descriptors must agree with the table
 * of messages, and docs/unimplemented.md with both. */
static void test_tables(void) {
	bool types = true, named = true, described = true;
	FILE *page = fopen("docs/unimplemented.md", "r");
	static char text[65536];
	size_t size = page ? fread(text, 1, sizeof(text) - 1, page) : 0;
	text[size] = '\0';
	const struct grpc_server server = { .services = services, .endpoint = &fake_endpoint };
	uint32_t groups = 0;
	for (const struct grpc_service *s = services; s->name; s++) {
		groups |= 1u << s->group;
		for (const struct grpc_method *m = s->methods; m->name; m++) {
			const ProtobufCMethodDescriptor *d =
			    protobuf_c_service_descriptor_get_method_by_name(s->api, m->name);
			const struct msg_row *row = m->number ? msg_row_find(m->number) : NULL;
			named &= d != NULL;
			types &= (row != NULL) + (m->answer != NULL) + (m->duplex != NULL) == 1;
			types &= !row || !d || m->translator || (row->request == d->input && row->reply == d->output);
		}
		for (unsigned i = 0; i < s->api->n_methods; i++) {
			struct grpc_target t;
			struct fault fault;
			char path[128], entry[128];
			snprintf(path, sizeof(path), "/%s/%s", s->name, s->api->methods[i].name);
			snprintf(entry, sizeof(entry), "\n| %s |", s->api->methods[i].name);
			bool there = grpc_resolve(&server, path, &t, &fault) == 0;
			described &= there == !page_names(text, s->name, entry);
		}
	}
	tap_check(groups == GROUPS_SERVED, "the groups that a configuration may rely on are those with services");
	tap_check(named, "every method is one of its service");
	tap_check(types, "every method's types are its message's types");
	if (page)
		fclose(page);
	tap_check(described, "docs/unimplemented.md lists exactly what isn't served");
}

int main(void) {
	struct fixture f;
	struct reply r = { 0 };
	log_init("test", LOG_ERROR);
	open_all(&f);
	test_version(&f, &r);
	test_call(&f, &r);
	test_stream(&f, &r);
	test_refusals(&f, &r);
	test_sizes(&f, &r);
	test_giving_up(&f, &r);
	test_goaway(&f, &r);
	test_unread(&f, &r);
	test_garbage(&f);
	test_tables();
	reply_reset(&r);
	close_all(&f);
	return tap_done();
}
