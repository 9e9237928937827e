/* The gRPC front: methods that are one row, refusals, sizes, giving up. Run
 * from the top folder. */
#include "tests/unit/grpc_lab.h"

#include "base/version.h"

#define STATUS_PATH "/runtime.v1.RuntimeService/ContainerStatus"

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
	ask(f, r, "/grpc.AgentService/ResizeVolume", status_request("x"), NULL, NULL);
	tap_check(failed(r, FAULT_UNIMPLEMENTED, "ResizeVolume of service grpc.AgentService isn't implemented"),
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
			types &= (row != NULL) + (m->answer != NULL) + (m->handler != NULL) == 1;
			const struct grpc_handler *h = m->handler;
			types &= !h || (h->open && h->message && h->closed && (h->end != NULL) == h->client_streams);
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
