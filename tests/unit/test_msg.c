/* Links between two processes' ends in one loop: calls, failures, descriptors,
 * large payloads, violations, successors; over rings and over sockets. */
#include "base/clock.h"
#include "base/fd.h"
#include "msg/internal.h"
#include "msg/typed.h"
#include "tap.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/socket.h>

struct side {
	struct loop *loop;
	struct link *link;
	int requests, cancelled, down;
	bool violation;
	char down_text[256];
	struct msg_request *kept;
};

struct result {
	int calls;
	enum fault_code code;
	char text[256];
	uint64_t number;
	int fd;
	size_t size;
};

static void turns(struct loop *l, int n) {
	for (int i = 0; i < n; i++)
		loop_turn(l, 2 * NS_PER_MS);
}

static void on_down(void *worker, struct link *l, bool violation, const char *text) {
	struct side *s = worker;
	s->down++;
	s->violation = violation;
	snprintf(s->down_text, sizeof(s->down_text), "%s", text);
}

static void request_cancelled_seen(struct msg_request *r, void *ctx) {
	((struct side *)ctx)->cancelled++;
}

static void on_snapshot_usage(struct side *s, struct msg_request *r, const Bulkhead__Key *m) {
	s->requests++;
	if (strcmp(m->id, "keep") == 0) {
		r->cancelled = request_cancelled_seen;
		r->cancelled_ctx = s;
		s->kept = r;
		return;
	}
	if (strcmp(m->id, "missing") == 0) {
		msg_failf(r, FAULT_NOT_FOUND, "snapshot \"%s\": no such snapshot", m->id);
		return;
	}
	Bulkhead__SnapshotUsageReply reply = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
	reply.size = strlen(m->id);
	reply.inodes = r->context.request;
	snapshot_usage_reply(r, &reply, NULL, 0);
}

static void on_snapshot_mount(struct side *s, struct msg_request *r, const Bulkhead__SnapshotMountRequest *m) {
	int fd = memfd_create("mount", MFD_CLOEXEC);
	if (write(fd, m->key, strlen(m->key)) < 0)
		abort();
	Bulkhead__Empty reply = BULKHEAD__EMPTY__INIT;
	snapshot_mount_reply(r, &reply, &fd, 1);
	close(fd);
}

static void on_layer_unpack(struct side *s, struct msg_request *r, const Bulkhead__LayerUnpackRequest *m) {
	char text[6] = { 0 };
	Bulkhead__LayerUnpackReply reply = BULKHEAD__LAYER_UNPACK_REPLY__INIT;
	reply.size = pread(r->fds[0], text, 5, 0) == 5 && strcmp(text, "tar!!") == 0;
	layer_unpack_reply(r, &reply, NULL, 0);
}

static void on_snapshot_list(struct side *s, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__SnapshotListReply reply = BULKHEAD__SNAPSHOT_LIST_REPLY__INIT;
	static char *names[20000];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		names[i] = "0123456789abcdef";
	reply.layers = names;
	reply.n_layers = ARRAY_SIZE(names);
	snapshot_list_reply(r, &reply, NULL, 0);
}

HANDLER_DEFINE(struct side, snapshot_usage)
HANDLER_DEFINE(struct side, snapshot_mount)
HANDLER_DEFINE(struct side, layer_unpack)
HANDLER_DEFINE(struct side, snapshot_list)

static const struct link_handler handlers[] = {
	HANDLER(snapshot_usage), HANDLER(snapshot_mount), HANDLER(layer_unpack), HANDLER(snapshot_list), { 0 },
};

static void usage_done(void *ctx, const struct msg_answer *a) {
	struct result *r = ctx;
	r->calls++;
	r->code = a->fault ? a->fault->code : FAULT_NONE;
	snprintf(r->text, sizeof(r->text), "%s", a->fault ? a->fault->text : "");
	if (!a->fault) {
		r->size = snapshot_usage_answer(a)->size;
		r->number = snapshot_usage_answer(a)->inodes;
	}
}

static void mount_done(void *ctx, const struct msg_answer *a) {
	struct result *r = ctx;
	r->calls++;
	r->fd = a->fault ? -1 : take_fd(&a->fds[0]);
}

static void unpack_done(void *ctx, const struct msg_answer *a) {
	((struct result *)ctx)->number = a->fault ? 0 : layer_unpack_answer(a)->size;
}

static void list_done(void *ctx, const struct msg_answer *a) {
	((struct result *)ctx)->size = a->fault ? 0 : snapshot_list_answer(a)->n_layers;
}

static void opaque_done(void *ctx, const struct msg_answer *a) {
	struct result *r = ctx;
	r->calls++;
	r->code = a->fault ? a->fault->code : FAULT_NONE;
	if (a->fault)
		return;
	uint8_t *copy = malloc(msg_body_size(&a->packed));
	msg_body_pack(&a->packed, copy);
	Bulkhead__SnapshotListReply *list =
	    bulkhead__snapshot_list_reply__unpack(NULL, msg_body_size(&a->packed), copy);
	r->size = list && !a->reply ? list->n_layers : 0;
	bulkhead__snapshot_list_reply__free_unpacked(list, NULL);
	free(copy);
}

static struct msg_call *ask(struct side *from, const char *id, const struct msg_context *context, struct result *r) {
	Bulkhead__Key key = BULKHEAD__KEY__INIT;
	key.id = (char *)id;
	return snapshot_usage_send(from->link, context, &key, NULL, 0, usage_done, r);
}

static void connect_sides(struct side *a, struct side *b, bool by_ring) {
	if (by_ring) {
		struct link_ends x, y;
		tap_check(link_ends_new(&x, &y) == 0, "ends");
		tap_check(link_attach_ring(a->link, &x) == 0 && link_attach_ring(b->link, &y) == 0, "attached by ring");
		return;
	}
	int p[2];
	socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p);
	tap_check(link_attach_socket(a->link, p[0]) == 0 && link_attach_socket(b->link, p[1]) == 0,
		  "attached by socket");
}

static void sides_new(struct loop *l, struct side *a, struct side *b) {
	*a = *b = (struct side){ .loop = l };
	struct link_options oa = {
		.loop = l, .self = ROLE_METADATA, .peer = ROLE_SNAPSHOT, .worker = a, .on_down = on_down
	};
	struct link_options ob = { .loop = l,
				   .self = ROLE_SNAPSHOT,
				   .peer = ROLE_METADATA,
				   .worker = b,
				   .on_down = on_down,
				   .handlers = handlers };
	if (link_new(&oa, &a->link) < 0 || link_new(&ob, &b->link) < 0)
		abort();
}

static void sides_free(struct side *a, struct side *b) {
	link_free(a->link);
	link_free(b->link);
}

static void test_calls(struct loop *l, struct side *a, struct side *b) {
	struct result r = { 0 };
	struct msg_context context = { .request = 77 };
	ask(a, "abc", &context, &r);
	tap_check(r.calls == 0, "the answer never comes from within the call");
	turns(l, 4);
	tap_check(r.calls == 1 && r.size == 3 && r.number == 77, "a call is answered, its request id came along");
	ask(a, "missing", NULL, &r);
	turns(l, 4);
	tap_check(r.code == FAULT_NOT_FOUND && strstr(r.text, "missing"), "a fault comes back whole: %s", r.text);
	ask(a, "not\xfftext", NULL, &r);
	turns(l, 4);
	tap_check(r.code == FAULT_INVALID_ARGUMENT && strstr(r.text, "UTF-8"), "what isn't text isn't sent: %s",
		  r.text);
	ask(a, "abc", NULL, &r);
	turns(l, 4);
	tap_check(r.code == FAULT_NONE && r.size == 3, "and the link is as good as before");

	struct result many[1000] = { 0 };
	for (int i = 0; i < 1000; i++)
		ask(a, "0123456789", NULL, &many[i]);
	for (int i = 0; i < 2000 && !many[999].calls; i++)
		turns(l, 1);
	int answered = 0;
	for (int i = 0; i < 1000; i++)
		answered += many[i].calls == 1 && many[i].size == 10;
	tap_check(answered == 1000, "1000 calls at once, more than the ring holds (%d)", answered);

	char *long_id = malloc(60001);
	memset(long_id, 'x', 60000);
	long_id[60000] = 0;
	ask(a, long_id, NULL, &r);
	turns(l, 4);
	tap_check(r.size == 60000, "a payload too large for the ring goes by descriptor");
	free(long_id);
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	snapshot_list_send(a->link, NULL, &empty, NULL, 0, list_done, &r);
	turns(l, 6);
	tap_check(r.size == 20000, "so does a large answer");
}

static void test_opaque(struct loop *l, struct side *a) {
	struct result r = { 0 };
	Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;
	Bulkhead__Key missing = BULKHEAD__KEY__INIT;
	msg_send_opaque(a->link, MSG_snapshot_list, NULL, &empty.base, opaque_done, &r);
	turns(l, 6);
	tap_check(r.calls == 1 && r.size == 20000, "an answer to hand on comes in the bytes that the peer sent");
	missing.id = (char *)"missing";
	msg_send_opaque(a->link, MSG_snapshot_usage, NULL, &missing.base, opaque_done, &r);
	turns(l, 4);
	tap_check(r.calls == 2 && r.code == FAULT_NOT_FOUND, "or its fault");
}

static void test_descriptors(struct loop *l, struct side *a) {
	struct result r = { .fd = -1 };
	Bulkhead__SnapshotMountRequest m = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	m.key = "root";
	snapshot_mount_send(a->link, NULL, &m, NULL, 0, mount_done, &r);
	turns(l, 4);
	char text[5] = { 0 };
	tap_check(r.fd >= 0 && pread(r.fd, text, 4, 0) == 4 && strcmp(text, "root") == 0, "a descriptor comes back");
	fd_close(r.fd);
	int fd = memfd_create("layer", MFD_CLOEXEC);
	fd_write_all(fd, "tar!!", 5);
	Bulkhead__LayerUnpackRequest u = BULKHEAD__LAYER_UNPACK_REQUEST__INIT;
	struct result many[200] = { 0 };
	for (int i = 0; i < 200; i++)
		layer_unpack_send(a->link, NULL, &u, &fd, 1, unpack_done, &many[i]);
	close(fd);
	for (int i = 0; i < 500 && !many[199].number; i++)
		turns(l, 1);
	int good = 0;
	for (int i = 0; i < 200; i++)
		good += many[i].number == 1;
	tap_check(good == 200, "200 descriptors each find their message (%d)", good);
}

/* --- a number of descriptors that the message decides --- */

/* Says how many there are, and that each is the one of its place. */
static void on_task_create(struct side *s, struct msg_request *r, const Bulkhead__TaskCreateRequest *m) {
	Bulkhead__TaskCreateReply reply = BULKHEAD__TASK_CREATE_REPLY__INIT;
	for (size_t i = 0; i < r->n_fds; i++) {
		size_t number = 99;
		if (pread(r->fds[i], &number, sizeof(number), 0) == sizeof(number) && number == i)
			reply.created_at++;
	}
	reply.pid = (int32_t)r->n_fds;
	msg_close_fds(r);
	task_create_reply(r, &reply, NULL, 0);
}

HANDLER_DEFINE(struct side, task_create)

static const struct link_handler task_handlers[] = { HANDLER(task_create), { 0 } };

static void create_done(void *ctx, const struct msg_answer *a) {
	struct result *r = ctx;
	r->calls++;
	r->code = a->fault ? a->fault->code : FAULT_NONE;
	r->number = a->fault ? 0 : (uint64_t)task_create_answer(a)->pid;
	r->size = a->fault ? 0 : (size_t)task_create_answer(a)->created_at;
}

static struct result create_with(struct loop *l, struct side *a, const int *fds, size_t n, size_t payload) {
	struct result r = { 0 };
	Bulkhead__TaskCreateRequest m = BULKHEAD__TASK_CREATE_REQUEST__INIT;
	CLEANUP_FREE char *text = calloc(1, payload + 1);
	memset(text, 'x', payload);
	m.log_path = text;
	task_create_send(a->link, NULL, &m, fds, n, create_done, &r);
	for (int i = 0; i < 100 && !r.calls; i++)
		turns(l, 1);
	return r;
}

static void test_more_descriptors(struct loop *l, bool by_ring) {
	struct side a = { .loop = l }, b = a;
	int fds[MSG_FDS_MAX + 1];
	struct link_options oa = {
		.loop = l, .self = ROLE_METADATA, .peer = ROLE_TASK, .worker = &a, .on_down = on_down
	};
	struct link_options ob = { .loop = l,
				   .self = ROLE_TASK,
				   .peer = ROLE_METADATA,
				   .worker = &b,
				   .on_down = on_down,
				   .handlers = task_handlers };
	if (link_new(&oa, &a.link) < 0 || link_new(&ob, &b.link) < 0)
		abort();
	connect_sides(&a, &b, by_ring);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = memfd_create("numbered", MFD_CLOEXEC);
		fd_write_all(fds[i], &i, sizeof(i));
	}
	static const size_t counts[] = { 1, 2, MSG_FDS_MAX };
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		struct result r = create_with(l, &a, fds, counts[i], 10);
		tap_check(r.calls == 1 && r.number == counts[i] && r.size == counts[i],
			  "%zu descriptors in their order", counts[i]);
	}
	struct result r = create_with(l, &a, fds, MSG_FDS_MAX, 100000);
	tap_check(r.number == MSG_FDS_MAX && r.size == MSG_FDS_MAX, "as many with a payload by descriptor");
	tap_check(create_with(l, &a, fds, 0, 10).code == FAULT_INTERNAL &&
		      create_with(l, &a, fds, MSG_FDS_MAX + 1, 10).code == FAULT_INTERNAL && b.down == 0,
		  "too few and too many aren't sent");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	sides_free(&a, &b);
}

static void test_giving_up(struct loop *l, struct side *a, struct side *b) {
	struct result r = { 0 };
	msg_cancel(ask(a, "keep", NULL, &r));
	turns(l, 4);
	struct msg_context soon = { .deadline = clock_mono() + 3 * NS_PER_MS };
	msg_failf(b->kept, FAULT_CANCELLED, "given up");
	turns(l, 4);
	tap_check(b->requests > 0 && r.calls == 0, "a cancelled call isn't answered");
	b->cancelled = 0;
	ask(a, "keep", &soon, &r);
	turns(l, 8);
	tap_check(r.calls == 1 && r.code == FAULT_DEADLINE_EXCEEDED, "a deadline ends a call: %s", r.text);
	tap_check(b->cancelled == 1, "and the other side learns it");
	msg_failf(b->kept, FAULT_INTERNAL, "too late");
	turns(l, 4);
	tap_check(r.calls == 1, "a late answer goes nowhere");
}

static void test_successor(struct loop *l, struct side *a, struct side *b, bool by_ring) {
	struct result resend = { 0 }, lost = { 0 };
	ask(a, "keep", NULL, &resend);
	turns(l, 4);
	Bulkhead__LayerUnpackRequest u = BULKHEAD__LAYER_UNPACK_REQUEST__INIT;
	int fd = memfd_create("layer", MFD_CLOEXEC);
	struct msg_request *old = b->kept;
	connect_sides(a, b, by_ring); /* as if b had been replaced */
	turns(l, 4);
	tap_check(b->requests > 0 && b->kept != old && b->kept, "a RESEND call goes to the successor");
	Bulkhead__SnapshotUsageReply reply = BULKHEAD__SNAPSHOT_USAGE_REPLY__INIT;
	reply.size = 5;
	snapshot_usage_reply(b->kept, &reply, NULL, 0);
	snapshot_usage_reply(old, &reply, NULL, 0); /* abandoned: goes nowhere */
	turns(l, 4);
	tap_check(resend.calls == 1 && resend.size == 5, "and is answered once");
	link_free(b->link);
	turns(l, 3);
	layer_unpack_send(a->link, NULL, &u, &fd, 1, usage_done, &lost);
	turns(l, 4);
	tap_check(lost.calls == 1 && lost.code == FAULT_UNAVAILABLE, "a peer that is gone: %s", lost.text);
	if (!by_ring)
		tap_check(a->down == 1 && !a->violation, "a closed socket is no violation");
	b->link = NULL;
	close(fd);
}

static void violate(struct loop *l, const struct frame *f, const void *payload, const char *what) {
	struct side a, b;
	sides_new(l, &a, &b);
	int p[2];
	socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p);
	if (link_attach_socket(b.link, p[0]) < 0)
		abort();
	struct iovec iov[2] = { { (void *)f, sizeof(*f) }, { (void *)payload, payload ? f->size : 0 } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	if (sendmsg(p[1], &m, 0) < 0)
		abort();
	turns(l, 3);
	tap_check(b.down == 1 && b.violation, "%s: %s", what, b.down_text);
	close(p[1]);
	sides_free(&a, &b);
}

static void test_violations(struct loop *l) {
	violate(l, &(struct frame){ .number = 9999, .kind = FRAME_REQUEST }, NULL, "unknown message");
	violate(l, &(struct frame){ .number = MSG_task_list, .kind = FRAME_REQUEST }, NULL, "not its message");
	violate(l, &(struct frame){ .number = MSG_snapshot_usage, .kind = 9 }, NULL, "unknown kind");
	violate(l, &(struct frame){ .number = MSG_snapshot_usage, .kind = FRAME_REQUEST, .size = 70000 }, NULL, "size");
	violate(l, &(struct frame){ .number = MSG_layer_unpack, .kind = FRAME_REQUEST }, NULL, "missing descriptor");
	violate(l, &(struct frame){ .number = MSG_snapshot_usage, .kind = FRAME_REQUEST, .size = 4 },
		"\x0a\x02"
		"a\0",
		"NUL in a string");
	violate(l, &(struct frame){ .number = MSG_snapshot_usage, .kind = FRAME_REQUEST, .size = 4 },
		"\x0a\x02\xff\xff", "invalid UTF-8");
	violate(l, &(struct frame){ .number = MSG_snapshot_usage, .kind = FRAME_REQUEST, .size = 3 },
		"\x0a\x09"
		"a",
		"cut payload");
}

/* --- access: a link of an endpoint that may not do everything --- */

static void on_any(void *worker, struct msg_request *r, const ProtobufCMessage *m) {
	((struct side *)worker)->requests++;
	msg_failf(r, FAULT_ABORTED, "%s has come", r->row->name);
}

/* Everything that an API worker may say at all. */
static const struct link_handler *api_handlers(void) {
	static struct link_handler all[256];
	size_t n = 0;
	for (const struct msg_row *r = msg_rows; r->name && n + 1 < ARRAY_SIZE(all); r++)
		if (r->from == ROLE_API)
			all[n++] = (struct link_handler){ .number = r->number, .handle = on_any };
	return all;
}

/* claims: what the sender believes, or has been made to believe. */
static void endpoint_new(struct loop *l, enum link_access claims, enum link_access access, struct side *api,
			 struct side *metadata) {
	struct link_ends x, y;
	*api = *metadata = (struct side){ .loop = l };
	const struct link_options a = { .loop = l,
					.self = ROLE_API,
					.peer = ROLE_METADATA,
					.access = claims,
					.endpoint = "look",
					.worker = api,
					.on_down = on_down };
	const struct link_options m = { .loop = l,
					.self = ROLE_METADATA,
					.peer = ROLE_API,
					.access = access,
					.endpoint = "look",
					.worker = metadata,
					.on_down = on_down,
					.handlers = api_handlers() };
	if (link_new(&a, &api->link) < 0 || link_new(&m, &metadata->link) < 0 || link_ends_new(&x, &y) < 0 ||
	    link_attach_ring(api->link, &x) < 0 || link_attach_ring(metadata->link, &y) < 0)
		abort();
}

static void row_done(void *ctx, const struct msg_answer *a) {
	struct result *r = ctx;
	r->calls++;
	r->code = a->fault ? a->fault->code : FAULT_NONE;
	snprintf(r->text, sizeof(r->text), "%s", a->fault ? a->fault->text : "");
}

static struct result say(struct loop *l, struct side *api, const struct msg_row *row) {
	_Alignas(max_align_t) uint8_t memory[4096] = { 0 };
	const int fds[MSG_FDS_MAX] = { 0 };
	struct result r = { 0 };
	if (row->request->sizeof_message > sizeof(memory))
		abort();
	protobuf_c_message_init(row->request, memory);
	struct msg_call *c =
	    msg_send(api->link, row->number, NULL, (ProtobufCMessage *)memory, fds, row->request_fds, row_done, &r);
	turns(l, 6);
	if (r.calls == 0)
		msg_cancel(c);
	return r;
}

/* Each row over each link, said by a worker that knows what it may say, and by
 * one that somebody has taken over. */
static void test_access(struct loop *l, enum link_access access) {
	bool honest = true, taken_over = true;
	for (const struct msg_row *row = msg_rows; row->name; row++) {
		struct side api, metadata;
		if (row->from != ROLE_API)
			continue;
		bool carried = row->access <= access;
		endpoint_new(l, access, access, &api, &metadata);
		struct result r = say(l, &api, row);
		honest &= r.calls == 1 && r.code == (carried ? FAULT_ABORTED : FAULT_PERMISSION_DENIED) &&
			  metadata.requests == carried && metadata.down == 0;
		sides_free(&api, &metadata);
		endpoint_new(l, ACCESS_FULL, access, &api, &metadata);
		say(l, &api, row);
		taken_over &= metadata.requests == carried && metadata.violation == !carried;
		sides_free(&api, &metadata);
		turns(l, 2);
	}
	tap_check(honest, "%s access: a call that isn't carried fails where it is made", link_access_name(access));
	tap_check(taken_over, "%s access: whoever sends it all the same has broken the protocol",
		  link_access_name(access));
}

static void test_access_words(struct loop *l) {
	struct side api, metadata;
	endpoint_new(l, ACCESS_READ_ONLY, ACCESS_READ_ONLY, &api, &metadata);
	struct result r = say(l, &api, msg_row_find(MSG_cri_start_container));
	tap_check(strcmp(r.text, "endpoint \"look\" is read-only: cri_start_container isn't served") == 0,
		  "it says why");
	sides_free(&api, &metadata);
	endpoint_new(l, ACCESS_FULL, ACCESS_READ_ONLY, &api, &metadata);
	say(l, &api, msg_row_find(MSG_cri_start_container));
	tap_check(metadata.requests == 0 && metadata.violation && strstr(metadata.down_text, "cri_start_container"),
		  "a read-only API worker that was taken over starts no container");
	sides_free(&api, &metadata);
	turns(l, 2);
}

/* What each kind of endpoint is for; a row that lost its flag, or got one that
 * it shouldn't have, is seen here. */
static void test_access_classes(void) {
	static const struct {
		uint16_t number;
		enum link_access access;
	} known[] = {
		{ MSG_cri_list_pod_sandbox_metrics, ACCESS_METRICS },
		{ MSG_cri_list_container_stats, ACCESS_METRICS },
		{ MSG_cri_list_containers, ACCESS_READ_ONLY },
		{ MSG_cri_container_status, ACCESS_READ_ONLY },
		{ MSG_events, ACCESS_READ_ONLY },
		{ MSG_cri_start_container, ACCESS_FULL },
		{ MSG_cri_run_pod_sandbox, ACCESS_FULL },
		{ MSG_cri_exec, ACCESS_FULL },
		{ MSG_cri_attach, ACCESS_FULL },
		{ MSG_cri_port_forward, ACCESS_FULL },
		{ MSG_cri_exec_sync, ACCESS_FULL },
		{ MSG_call_exec, ACCESS_FULL },
		{ MSG_call_exec_wait, ACCESS_FULL },
		{ MSG_cri_pull_image, ACCESS_FULL },
		{ MSG_admin_pull, ACCESS_FULL },
		{ MSG_task_start, ACCESS_NONE },
	};
	bool right = true;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		right &= msg_row_find(known[i].number)->access == known[i].access;
	tap_check(right, "streams, commands and changes need full access; lists and events reading; numbers metrics");
}

static void test_ring_lies(void) {
	int rw[2], ro[2];
	struct ring a, b;
	struct buffer record = { 0 };
	for (int i = 0; i < 2; i++)
		if (ring_memory_new(&rw[i], &ro[i]) < 0)
			abort();
	tap_check(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ro[0], 0) == MAP_FAILED,
		  "the reader's descriptor can't be mapped writable");
	tap_check(ftruncate(rw[0], 0) < 0, "nobody can shrink a ring");
	tap_check(ring_init(&a, rw[0], ro[1]) == 0 && ring_init(&b, rw[1], ro[0]) == 0, "a ring pair");
	tap_check(ring_push(&a, "abcdefgh", 8, "ij", 2) == 0 && ring_pop(&b, &record) == 1 && record.size == 10 &&
		      memcmp(record.data, "abcdefghij", 10) == 0,
		  "a record arrives");
	uint32_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, rw[0], 0);
	uint32_t head = page[0];
	const uint32_t lies[] = { head + 1, head + RING_DATA_SIZE + 8, head - 8 };
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		page[0] = lies[i];
		tap_check(ring_pop(&b, &record) == -EBADMSG, "an impossible position is refused (%zu)", i);
	}
	page[0] = head + 16;
	uint8_t *data = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, rw[0], 0);
	memset(data + 128 + head, 0xff, 8);
	tap_check(ring_pop(&b, &record) == -EBADMSG, "an impossible length is refused");
	ring_deinit(&a);
	ring_deinit(&b);
	buffer_deinit(&record);
}

static void test_rows(void) {
	bool ascend = true, found = true;
	for (const struct msg_row *r = msg_rows; r->name; r++) {
		ascend = ascend && (r == msg_rows || r[-1].number < r->number);
		found = found && msg_row_find(r->number) == r;
	}
	tap_check(ascend && found, "rows are in the order of their numbers and found by them");
	const struct msg_row *more = msg_row_find(MSG_task_create), *one = msg_row_find(MSG_layer_unpack);
	tap_check(!msg_row_fds(more, 0) && msg_row_fds(more, 1) && msg_row_fds(more, MSG_FDS_MAX) &&
		      !msg_row_fds(more, MSG_FDS_MAX + 1) && !msg_row_fds(one, 0) && msg_row_fds(one, 1) &&
		      !msg_row_fds(one, 2),
		  "how many descriptors a row takes");
	tap_check(!msg_row_find(0) && !msg_row_find(65535), "what isn't a row isn't found");
}

int main(void) {
	struct loop *l;
	test_rows();
	if (loop_new(NULL, &l) < 0 || loop_enable(l, NULL, 0) < 0)
		abort();
	for (int by_ring = 0; by_ring < 2; by_ring++) {
		struct side a, b;
		sides_new(l, &a, &b);
		connect_sides(&a, &b, by_ring);
		test_calls(l, &a, &b);
		test_opaque(l, &a);
		test_descriptors(l, &a);
		test_giving_up(l, &a, &b);
		test_successor(l, &a, &b, by_ring);
		sides_free(&a, &b);
		test_more_descriptors(l, by_ring);
	}
	test_violations(l);
	test_access_classes();
	for (enum link_access access = ACCESS_METRICS; access < ACCESS_COUNT; access++)
		test_access(l, access);
	test_access_words(l);
	test_ring_lies();
	loop_free(l);
	return tap_done();
}
