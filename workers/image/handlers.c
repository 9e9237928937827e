/* The rows that this worker answers, and its life as a whole. */
#include "worker.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/footprint.h"
#include "fetch.h"
#include "push.h"
#include "resolve.h"
#include "session.h"
#include "write.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define IDLE_AFTER_MS 1000 /* a next pull of the same registry may use the connections */

int image_worker_init(struct image_worker *w, struct loop *loop, const struct boot_config *config,
		      struct link *metadata, struct content *content) {
	*w = (struct image_worker){ .loop = loop, .config = config, .metadata = metadata, .content = content };
	list_init(&w->sessions);
	list_init(&w->resolves);
	list_init(&w->pushes);
	list_init(&w->fetches);
	map_init(&w->downloads);
	map_init(&w->writes);
	int r = transfers_new(loop, &w->transfers);
	if (r == 0)
		image_worker_idle(w);
	return r;
}

static void on_idle(void *ctx) {
	struct image_worker *w = ctx;
	loop_source_free_p(&w->idle);
	if (w->n_sessions > 0)
		return;
	transfers_trim(w->transfers);
	content_sweep(w->content);
	footprint_trim();
}

void image_worker_idle(struct image_worker *w) {
	loop_source_free_p(&w->idle);
	/* Without a timer it is done after the next pull. */
	if (loop_timer(w->loop, clock_mono() + IDLE_AFTER_MS * NS_PER_MS, on_idle, w, &w->idle) < 0)
		w->idle = NULL;
}

void image_worker_abandon(struct image_worker *w, const char *why) {
	/* Each step may end others. */
	while (!list_empty(&w->resolves))
		resolve_abandon(resolve_of(w->resolves.next), why);
	push_abandon_all(w, why);
	fetch_abandon_all(w, why);
	write_abandon_all(w, why);
	while (!list_empty(&w->sessions))
		session_release(list_entry(w->sessions.next, struct session, node));
}

void image_worker_deinit(struct image_worker *w) {
	image_worker_abandon(w, "the image worker stops");
	loop_source_free_p(&w->idle);
	transfers_free(w->transfers);
	map_deinit(&w->downloads);
	map_deinit(&w->writes);
}

/* Fetches that still run for it keep what they need. */
void on_image_release(struct image_worker *w, struct msg_request *r, const Bulkhead__ImageReleaseRequest *m) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct session *s = session_find(w, m->pull_id);
	if (s)
		session_release(s);
	image_release_reply(r, &done, NULL, 0);
}

void on_content_list(struct image_worker *w, struct msg_request *r, const Bulkhead__Empty *m) {
	Bulkhead__ContentListReply list = BULKHEAD__CONTENT_LIST_REPLY__INIT;
	struct arena arena;
	struct fault fault;
	arena_init(&arena, r->row->limit * 2);
	if (content_list_blobs(w->content, &arena, &list, &fault) < 0)
		msg_fail(r, &fault);
	else
		content_list_reply(r, &list, NULL, 0);
	arena_deinit(&arena);
}

static void content_done(void *ctx, const struct fault *fault) {
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct msg_request *r = ctx;
	if (fault)
		msg_fail(r, fault);
	else
		msg_reply(r, &done.base, NULL, 0, false);
}

void on_content_remove(struct image_worker *w, struct msg_request *r, const Bulkhead__KeyList *m) {
	struct fault fault;
	if (content_remove_blobs(w->content, m->ids, m->n_ids, content_done, r, &fault) < 0)
		msg_fail(r, &fault);
}

void on_content_index(struct image_worker *w, struct msg_request *r, const Bulkhead__ContentIndexRequest *m) {
	struct fault fault;
	if (content_write_index(w->content, m, content_done, r, &fault) < 0)
		msg_fail(r, &fault);
}

void on_blob_open(struct image_worker *w, struct msg_request *r, const Bulkhead__Key *m) {
	Bulkhead__Descriptor blob = BULKHEAD__DESCRIPTOR__INIT;
	CLEANUP_FD int fd = -1;
	struct stat st;
	int e = content_blob_open(w->content, m->id, UINT64_MAX, &fd);
	if (e == 0 && fstat(fd, &st) < 0)
		e = -errno;
	if (e < 0) {
		msg_failf(r, FAULT_NOT_FOUND, "content %.100s: %s", m->id, strerrordesc_np(-e));
		return;
	}
	blob.digest = m->id;
	blob.size = (uint64_t)st.st_size;
	blob_open_reply(r, &blob, &fd, 1);
}

#define TO_IMAGE(name) HANDLER_DEFINE(struct image_worker, name)
#include "msg/receivers.def"

const struct link_handler image_handlers[] = {
#define TO_IMAGE(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};
