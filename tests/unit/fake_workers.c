/*
 * A connection's first byte says what the api worker does:
 *   ?  asks the metadata worker, which asks all others, and writes the answer
 *   !  accuses the metadata worker of a violation
 *   g  sends garbage to the supervisor
 *   x  sends it a message that only the supervisor may send
 *   s  sends the metadata worker a message of full access, whatever its own is
 */
#include "fake_workers.h"

#include "base/fd.h"
#include "msg/internal.h"
#include "msg/typed.h"
#include "workers/skeleton/control.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* --- api --- */

struct connection {
	struct worker *worker;
	int fd;
	struct loop_source *source, *sender;
};

static void connection_end(void *ctx, int result) {
	struct connection *c = ctx;
	loop_source_free(c->source);
	loop_source_free(c->sender);
	close(c->fd);
	free(c);
}

static void images_listed(void *ctx, const struct msg_answer *a) {
	struct connection *c = ctx;
	struct buffer text = { 0 };
	if (a->fault)
		buffer_addf(&text, "error %s", a->fault->text);
	else
		buffer_addf(&text, "%s api-restarts=%u", cri_list_images_answer(a)->images[0]->id,
			    c->worker->boot->restarts);
	if (loop_send(c->worker->loop, c->fd, &text, connection_end, c, &c->sender) < 0)
		connection_end(c, 0);
}

static void byte_arrived(void *ctx, const uint8_t *data, ssize_t n) {
	struct connection *c = ctx;
	if (n <= 0)
		return;
	struct link *l = worker_link(c->worker, ROLE_METADATA, 0);
	if (data[0] == '!') {
		control_tell(c->worker, &(struct control){
					    .type = CONTROL_VIOLATION,
					    .peer = ROLE_METADATA,
					    .arg = (uint32_t)worker_peer_pid(c->worker, ROLE_METADATA, 0),
					    .text = "a test says so",
					});
		connection_end(c, 0);
		return;
	}
	if (data[0] == 'g' || data[0] == 'x') {
		struct control stop = { .type = CONTROL_STOP };
		if (send(c->worker->private->control, &stop, data[0] == 'g' ? 5 : sizeof(stop), 0) < 0)
			abort();
		connection_end(c, 0);
		return;
	}
	if (data[0] == 's') {
		static const Runtime__V1__StartContainerRequest start = RUNTIME__V1__START_CONTAINER_REQUEST__INIT;
		l->options.access = ACCESS_FULL;
		cri_start_container_send(l, NULL, &start, NULL, 0, NULL, NULL);
		connection_end(c, 0);
		return;
	}
	static const Runtime__V1__ListImagesRequest request = RUNTIME__V1__LIST_IMAGES_REQUEST__INIT;
	cri_list_images_send(l, NULL, &request, NULL, 0, images_listed, c);
}

static void accepted(void *ctx, int fd) {
	struct worker *w = ctx;
	if (fd < 0)
		return;
	struct connection *c = calloc(1, sizeof(*c));
	c->worker = w;
	c->fd = fd;
	if (loop_recv(w->loop, fd, byte_arrived, c, &c->source) < 0)
		abort();
}

static void api_listener(struct worker *w, unsigned index, int fd) {
	struct loop_source *s;
	if (loop_accept(w->loop, fd, accepted, w, &s) < 0)
		abort();
}

/* --- metadata: asks image, snapshot and task one after the other --- */

static struct msg_request *asked[64];

static struct msg_request **asked_slot(void *request) {
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		if (asked[i] == request)
			return &asked[i];
	abort();
}

static void reply_or_fail(struct msg_request *r, const struct msg_answer *a, struct worker *w, size_t zygotes) {
	*asked_slot(r) = NULL;
	if (a->fault) {
		msg_fail(r, a->fault);
		return;
	}
	char text[128];
	snprintf(text, sizeof(text), "ok line_max=%u zygotes=%zu", w->config.log_line_max, zygotes);
	Runtime__V1__Image image = RUNTIME__V1__IMAGE__INIT, *list[] = { &image };
	image.id = text;
	Runtime__V1__ListImagesResponse reply = RUNTIME__V1__LIST_IMAGES_RESPONSE__INIT;
	reply.n_images = 1;
	reply.images = list;
	cri_list_images_reply(r, &reply, NULL, 0);
}

static void tasks_listed(void *ctx, const struct msg_answer *a) {
	struct msg_request *r = ctx;
	reply_or_fail(r, a, link_worker(r->link), a->fault ? 0 : task_list_answer(a)->n_sandboxes);
}

static const Bulkhead__Empty empty = BULKHEAD__EMPTY__INIT;

static void snapshots_listed(void *ctx, const struct msg_answer *a) {
	struct msg_request *r = ctx;
	struct worker *w = link_worker(r->link);
	if (a->fault)
		reply_or_fail(r, a, w, 0);
	else
		task_list_send(worker_link(w, ROLE_TASK, 0), NULL, &empty, NULL, 0, tasks_listed, r);
}

static void content_listed(void *ctx, const struct msg_answer *a) {
	struct msg_request *r = ctx;
	struct worker *w = link_worker(r->link);
	if (a->fault)
		reply_or_fail(r, a, w, 0);
	else
		snapshot_list_send(worker_link(w, ROLE_SNAPSHOT, 0), NULL, &empty, NULL, 0, snapshots_listed, r);
}

static void on_cri_list_images(struct worker *w, struct msg_request *r, const Runtime__V1__ListImagesRequest *m) {
	*asked_slot(NULL) = r;
	content_list_send(worker_link(w, ROLE_IMAGE, 0), NULL, &empty, NULL, 0, content_listed, r);
}
HANDLER_DEFINE(struct worker, cri_list_images)

/* --- image, snapshot, task --- */

static void on_content_list(struct worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__ContentListReply reply = BULKHEAD__CONTENT_LIST_REPLY__INIT;
	content_list_reply(r, &reply, NULL, 0);
}
HANDLER_DEFINE(struct worker, content_list)

static void on_snapshot_list(struct worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__SnapshotListReply reply = BULKHEAD__SNAPSHOT_LIST_REPLY__INIT;
	snapshot_list_reply(r, &reply, NULL, 0);
}
HANDLER_DEFINE(struct worker, snapshot_list)

/* One "sandbox" for each greeting of a zygote that came so far. */
static size_t greetings;

static void on_task_list(struct worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__SandboxInfo sandbox = BULKHEAD__SANDBOX_INFO__INIT, *list[16];
	Bulkhead__TaskListReply reply = BULKHEAD__TASK_LIST_REPLY__INIT;
	for (size_t i = 0; i < ARRAY_SIZE(list); i++)
		list[i] = &sandbox;
	reply.n_sandboxes = MIN(greetings, ARRAY_SIZE(list));
	reply.sandboxes = list;
	task_list_reply(r, &reply, NULL, 0);
}
HANDLER_DEFINE(struct worker, task_list)

static int zygote_socket = -1;

static void greeting_arrived(void *ctx, uint32_t events) {
	char text[16];
	while (recv(zygote_socket, text, sizeof(text), MSG_DONTWAIT) > 0)
		greetings++;
}

static void task_zygote(struct worker *w, int fd) {
	static struct loop_source *source;
	loop_source_free(source);
	source = NULL;
	fd_replace(&zygote_socket, fd);
	if (loop_poll(w->loop, fd, POLLIN, greeting_arrived, w, &source) < 0)
		abort();
}

/* --- zygote: greets, and has one child that outlives it --- */

static void zygote_zygote(struct worker *w, int fd) {
	static bool forked;
	if (send(fd, "hello", 5, MSG_NOSIGNAL) < 0)
		abort();
	fd_close(fd);
	if (forked)
		return;
	forked = true;
	if (fork() == 0) {
		prctl(PR_SET_PDEATHSIG, 0);
		prctl(PR_SET_NAME, "fake-keeper");
		close_range(3, ~0u, 0);
		for (;;)
			pause();
	}
}

/* --- */

static int set_state(struct worker *w) {
	w->state = w;
	return 0;
}

#define PEERS(...)                           \
	(const enum role[]) {                \
		__VA_ARGS__, ROLE_SUPERVISOR \
	}
#define HANDLERS(...)                   \
	(const struct link_handler[]) { \
		__VA_ARGS__, {          \
			0               \
		}                       \
	}

static const struct worker_class classes[ROLE_COUNT] = {
	[ROLE_API] = {
		.loop = { .buffers = 8, .buffer_size = 1024 },
		.peers = PEERS(ROLE_METADATA),
		.listener = api_listener,
		.handlers = (const struct link_handler[]){ { 0 } },
	},
	[ROLE_METADATA] = {
		.peers = PEERS(ROLE_API, ROLE_IMAGE, ROLE_SNAPSHOT, ROLE_TASK, ROLE_STREAM, ROLE_SYSTEMD, ROLE_GUEST),
		.handlers = HANDLERS(HANDLER(cri_list_images)),
	},
	[ROLE_IMAGE] = { .peers = PEERS(ROLE_METADATA), .handlers = HANDLERS(HANDLER(content_list)) },
	[ROLE_SNAPSHOT] = { .peers = PEERS(ROLE_METADATA), .handlers = HANDLERS(HANDLER(snapshot_list)) },
	[ROLE_TASK] = {
		.peers = PEERS(ROLE_METADATA),
		.handlers = HANDLERS(HANDLER(task_list)),
		.zygote = task_zygote,
	},
	[ROLE_STREAM] = { .peers = PEERS(ROLE_METADATA), .handlers = (const struct link_handler[]){ { 0 } } },
	[ROLE_SYSTEMD] = { .peers = PEERS(ROLE_METADATA), .handlers = (const struct link_handler[]){ { 0 } } },
	[ROLE_GUEST] = { .peers = PEERS(ROLE_METADATA), .handlers = (const struct link_handler[]){ { 0 } } },
	[ROLE_KEEPER] = { .zygote = zygote_zygote },
};

void fake_worker_run(int argc, char **argv) {
	static const char prefix[] = "bulkhead-";
	const char *name = strrchr(argv[0], '/');
	name = name ? name + 1 : argv[0];
	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return;
	for (enum role role = ROLE_API; role < ROLE_COUNT; role++) {
		if (strcmp(name + strlen(prefix), role_name(role)) != 0)
			continue;
		struct worker_class class = classes[role];
		class.role = role;
		class.prepare = set_state;
		exit(worker_main(&class, argc, argv));
	}
}
