/*
 * Two halves. A download is one blob on its way into the store; there is at
 * most one per digest, whoever asked for it first. A fetch is one request: its
 * pipe (feed.h) trails the download's file, or the blob when it is there
 * already. A fetch is answered when the blob is committed and its own pipe has
 * everything.
 *
 * A connection that breaks is taken up again from the byte after the last one
 * that was hashed, ATTEMPTS times in a row without a new byte. What an earlier
 * life of this worker left in the file is hashed and fed first.
 */
#include "fetch.h"

#include "base/clock.h"
#include "base/fd.h"
#include "feed.h"
#include "ingest.h"
#include "msg/typed.h"
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ATTEMPTS 6
#define FIRST_DELAY_MS 100
#define PROGRESS_INTERVAL_MS 100

struct download {
	struct map_node node; /* by digest */
	struct image_worker *worker;
	char digest[DIGEST_SIZE];
	uint64_t size;
	struct session *session; /* whose right to the blob is used */
	struct list fetches;
	struct ingest *ingest;
	struct query *query;
	struct loop_source *retry;
	unsigned attempt;
	uint64_t reached;     /* offset when the attempt began */
	uint64_t skip;	      /* bytes that a server sends once more */
	uint64_t transferred; /* over the network */
	bool paused, answered, committing;
	bool hold;	      /* its fetches are being walked: it isn't freed */
	unsigned round;	      /* of such a walk */
	struct fault refusal; /* why we ended the transfer; code 0: we didn't */
	int64_t told;	      /* clock_mono of the last progress message */
};

struct fetch {
	struct list node;
	struct image_worker *worker;
	struct download *download; /* NULL: the blob is there */
	struct msg_request *request;
	struct session *session; /* NULL when none was needed */
	uint64_t pull_id;
	struct feed *feed;
	bool fed;
	unsigned round; /* the download's walk that has seen it */
	uint64_t size, transferred;
	char digest[DIGEST_SIZE];
};

/* --- fetches --------------------------------------------------------------- */

static void download_unused(struct download *d);

static void fetch_free(struct fetch *f) {
	list_unlink(&f->node);
	feed_free(f->feed);
	session_unref(f->session);
	free(f);
}

static void fetch_fail(struct fetch *f, const struct fault *fault) {
	struct msg_request *request = f->request;
	struct download *d = f->download;
	struct fault copy = *fault;
	fetch_free(f);
	msg_fail(request, &copy);
	if (d)
		download_unused(d);
}

static void tell_progress(struct fetch *f, uint64_t offset) {
	Bulkhead__PullProgress p = BULKHEAD__PULL_PROGRESS__INIT;
	p.pull_id = f->pull_id;
	p.digest = f->digest;
	p.offset = offset;
	p.total = f->size;
	pull_progress_send(f->worker->metadata, NULL, &p, NULL, 0, NULL, NULL);
}

static void fetch_finish_when_done(struct fetch *f) {
	if (f->download || !f->fed)
		return;
	struct msg_request *request = f->request;
	Bulkhead__LayerFetchReply reply = BULKHEAD__LAYER_FETCH_REPLY__INIT;
	reply.transferred = f->transferred;
	tell_progress(f, f->size);
	fetch_free(f); /* the reader sees the end before the caller hears of it */
	layer_fetch_reply(request, &reply, NULL, 0);
}

static void feed_done(void *ctx, const struct fault *fault) {
	struct fetch *f = ctx;
	if (fault) {
		fetch_fail(f, fault);
		return;
	}
	f->fed = true;
	fetch_finish_when_done(f);
}

static void fetch_cancelled(struct msg_request *request, void *ctx) {
	struct fault fault;
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	fetch_fail(ctx, &fault);
}

/* --- the end of a download ------------------------------------------------- */

static void download_free(struct download *d) {
	loop_source_free(d->retry);
	query_cancel(d->query);
	ingest_free(d->ingest);
	session_unref(d->session);
	map_remove(&d->worker->downloads, &d->node);
	free(d);
}

/* Nobody waits for it: what came stays for the next attempt. */
static void download_unused(struct download *d) {
	if (list_empty(&d->fetches) && !d->hold)
		download_free(d);
}

/* What is done to one fetch may end it, and an answer that can't be sent ends
 * all others too. So a walk goes back to the head of the list for each step,
 * and the download stays until walk_end. */
static void walk_begin(struct download *d) {
	d->hold = true;
	d->round++;
}

static struct fetch *walk_next(struct download *d) {
	list_for_each (n, &d->fetches) {
		struct fetch *f = list_entry(n, struct fetch, node);
		if (f->round != d->round) {
			f->round = d->round;
			return f;
		}
	}
	return NULL;
}

/* False when that was the end of the download. */
static bool walk_end(struct download *d) {
	d->hold = false;
	if (!list_empty(&d->fetches))
		return true;
	download_free(d);
	return false;
}

/* The fetches leave it first, so that none of them frees it. */
static void download_end(struct download *d, const struct fault *fault) {
	struct list ended;
	list_init(&ended);
	while (!list_empty(&d->fetches)) {
		struct fetch *f = list_entry(list_pop(&d->fetches), struct fetch, node);
		f->download = NULL;
		f->transferred = d->transferred;
		list_append(&ended, &f->node);
	}
	uint64_t size = d->size;
	download_free(d);
	while (!list_empty(&ended)) {
		struct fetch *f = list_entry(list_pop(&ended), struct fetch, node);
		list_append(&f->worker->fetches, &f->node);
		if (fault)
			fetch_fail(f, fault);
		else if (f->fed)
			fetch_finish_when_done(f);
		else
			feed_to(f->feed, size);
	}
}

static void download_start(struct download *d);

/* The registry said no to one pull. Another one that waits for the same blob
 * may have better credentials, or know it by another repository. */
static void download_refused(struct download *d, const struct fault *fault) {
	struct session *loser = d->session;
	list_for_each (n, &d->fetches) {
		struct fetch *f = list_entry(n, struct fetch, node);
		if (f->session == loser)
			continue;
		d->session = session_ref(f->session);
		break;
	}
	if (d->session == loser) {
		download_end(d, fault);
		return;
	}
	walk_begin(d);
	for (struct fetch *f; (f = walk_next(d));)
		if (f->session == loser)
			fetch_fail(f, fault);
	session_unref(loser);
	d->attempt = 0;
	if (walk_end(d))
		download_start(d);
}

/* --- bytes ----------------------------------------------------------------- */

static void feed_all(struct download *d) {
	uint64_t written = ingest_written(d->ingest);
	walk_begin(d);
	for (struct fetch *f; (f = walk_next(d));)
		if (!f->fed)
			feed_to(f->feed, written);
	walk_end(d);
}

static void progress(struct download *d) {
	int64_t now = clock_mono();
	if (now - d->told < PROGRESS_INTERVAL_MS * NS_PER_MS)
		return;
	d->told = now;
	list_for_each (n, &d->fetches)
		tell_progress(list_entry(n, struct fetch, node), ingest_offset(d->ingest));
}

/* What the head of an answer says about where its bytes belong. */
static int check_answer(struct download *d, const struct transfer_head *head) {
	uint64_t offset = ingest_offset(d->ingest);
	uint64_t begins = head->status == 206 ? (uint64_t)head->range_start : 0;
	int64_t total = head->status == 206 ? head->range_total : head->content_length;
	d->answered = true;
	if (head->status == 206 && (head->range_start < 0 || begins != offset))
		return fault_set(&d->refusal, FAULT_DATA_LOSS, "the registry sent another range than asked for");
	if (total >= 0 && (uint64_t)total != d->size)
		return fault_set(&d->refusal, FAULT_DATA_LOSS, "the registry has %lld bytes, the manifest says %llu",
				 (long long)total, (unsigned long long)d->size);
	d->skip = offset - begins;
	return 0;
}

static enum transfer_flow on_data(void *ctx, const struct transfer_head *head, const uint8_t *data, size_t size) {
	struct download *d = ctx;
	if (!d->answered && check_answer(d, head) < 0)
		return TRANSFER_ABORT;
	size_t skip = (size_t)MIN(d->skip, (uint64_t)size);
	int r = ingest_add(d->ingest, data + skip, size - skip);
	if (r == -EAGAIN) {
		d->paused = true;
		return TRANSFER_PAUSE;
	}
	if (r < 0) {
		if (r == -EFBIG)
			fault_set(&d->refusal, FAULT_DATA_LOSS, "more bytes came than the %llu that the manifest says",
				  (unsigned long long)d->size);
		else
			fault_errno(&d->refusal, r, "take the registry's bytes");
		return TRANSFER_ABORT;
	}
	d->skip -= skip;
	d->transferred += size;
	return TRANSFER_GO_ON;
}

/* --- attempts -------------------------------------------------------------- */

static void committed(void *ctx, const struct fault *fault) {
	download_end(ctx, fault);
}

static void commit(struct download *d) {
	d->committing = true;
	ingest_commit(d->ingest, committed);
}

static void on_retry(void *ctx) {
	struct download *d = ctx;
	loop_source_free_p(&d->retry);
	download_start(d);
}

static bool try_later(struct download *d) {
	if (ingest_offset(d->ingest) > d->reached)
		d->attempt = 0;
	if (++d->attempt >= ATTEMPTS)
		return false;
	int64_t delay = (int64_t)FIRST_DELAY_MS << d->attempt;
	return loop_timer(d->worker->loop, clock_mono() + delay * NS_PER_MS, on_retry, d, &d->retry) == 0;
}

static void query_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct download *d = ctx;
	struct fault own;
	uint64_t have = ingest_offset(d->ingest);
	d->query = NULL;
	if (d->refusal.code) {
		own = d->refusal;
		download_end(d, &own);
	} else if (!fault && have == d->size) {
		commit(d);
	} else if (!fault) {
		fault_set(&own, FAULT_DATA_LOSS, "the registry sent %llu bytes, the manifest says %llu",
			  (unsigned long long)have, (unsigned long long)d->size);
		download_end(d, &own);
	} else if (!again || !try_later(d)) {
		own = *fault;
		download_refused(d, &own);
	}
}

/* Asks for what is missing. */
static void download_start(struct download *d) {
	struct fault fault;
	d->reached = ingest_offset(d->ingest);
	d->answered = d->paused = false;
	d->skip = 0;
	d->refusal.code = FAULT_NONE;
	if (d->reached == d->size) {
		commit(d);
		return;
	}
	if (query_start(
		&(struct query_request){
		    .session = d->session,
		    .need = HOST_PULL,
		    .what = "blobs",
		    .name = d->digest,
		    .offset = d->reached,
		    .data = on_data,
		    .done = query_done,
		    .ctx = d,
		},
		&d->query, &fault) < 0)
		download_end(d, &fault);
}

static void ingest_moved(void *ctx) {
	struct download *d = ctx;
	if (ingest_ready(d->ingest) && !d->query && !d->retry && !d->committing)
		download_start(d);
	if (d->paused && d->query) {
		d->paused = false;
		query_resume(d->query);
	}
	progress(d);
	feed_all(d); /* last: d may be gone afterwards */
}

static void ingest_failed(void *ctx, const struct fault *fault) {
	struct fault copy = *fault;
	download_end(ctx, &copy);
}

/* --- beginning ------------------------------------------------------------- */

static int download_new(struct image_worker *w, const Bulkhead__Descriptor *blob, struct session *session,
			struct download **ret_download, struct fault *fault) {
	struct download *d = calloc(1, sizeof(*d));
	if (!d)
		return fault_errno(fault, ENOMEM, "download");
	d->worker = w;
	d->size = blob->size;
	memcpy(d->digest, blob->digest, DIGEST_SIZE);
	list_init(&d->fetches);
	int r = map_insert(&w->downloads, &d->node, d->digest);
	if (r < 0) {
		free(d);
		return fault_errno(fault, r, "download");
	}
	d->session = session_ref(session);
	r = ingest_new(
	    &(struct ingest_options){
		.content = w->content,
		.digest = d->digest,
		.size = d->size,
		.resume = true,
		.moved = ingest_moved,
		.failed = ingest_failed,
		.ctx = d,
	    },
	    &d->ingest, fault);
	if (r < 0) {
		download_free(d);
		return r;
	}
	*ret_download = d;
	return 0;
}

static int make_feed(struct fetch *f, int file, struct fault *fault) {
	if (f->fed)
		return 0;
	return feed_new(
	    &(struct feed_options){
		.loop = f->worker->loop,
		.file = file,
		.pipe = take_fd(&f->request->fds[0]),
		.size = f->size,
		.done = feed_done,
		.ctx = f,
	    },
	    &f->feed, fault);
}

static int join_download(struct fetch *f, const Bulkhead__Descriptor *blob, struct fault *fault) {
	struct image_worker *w = f->worker;
	struct map_node *node = map_find(&w->downloads, blob->digest);
	struct download *d = node ? container_of(node, struct download, node) : NULL;
	struct session *s = session_find(w, f->pull_id);
	if (!s)
		return fault_set(fault, FAULT_FAILED_PRECONDITION,
				 "pull %llu isn't known here: the image must be resolved (again) first",
				 (unsigned long long)f->pull_id);
	if (d && d->size != blob->size)
		return fault_set(fault, FAULT_DATA_LOSS,
				 "another image says that it has %llu bytes, this one says %llu",
				 (unsigned long long)d->size, (unsigned long long)blob->size);
	bool begins = !d;
	int r = begins ? download_new(w, blob, s, &d, fault) : 0;
	if (r < 0)
		return r;
	r = make_feed(f, ingest_file(d->ingest), fault);
	if (r < 0) {
		download_unused(d);
		return r;
	}
	f->session = session_ref(s);
	f->download = d;
	list_append(&d->fetches, &f->node);
	if (begins && ingest_ready(d->ingest))
		download_start(d);
	else if (!begins && !f->fed)
		feed_to(f->feed, ingest_written(d->ingest));
	return 0;
}

/* From disk when it is there, else from the registry. */
static int fetch_begin(struct fetch *f, const Bulkhead__Descriptor *blob, struct fault *fault) {
	CLEANUP_FD int file = -1;
	if (content_blob_open(f->worker->content, blob->digest, blob->size, &file) < 0)
		return join_download(f, blob, fault);
	int r = make_feed(f, file, fault);
	if (r < 0)
		return r;
	list_append(&f->worker->fetches, &f->node);
	if (f->fed)
		fetch_finish_when_done(f);
	else
		feed_to(f->feed, f->size);
	return 0;
}

void on_layer_fetch(struct image_worker *w, struct msg_request *request, const Bulkhead__LayerFetchRequest *m) {
	struct fault fault;
	const Bulkhead__Descriptor *blob = m->blob;
	if (!blob || !digest_valid(blob->digest) || blob->size > INT64_MAX) {
		msg_failf(request, FAULT_INVALID_ARGUMENT, "layer_fetch: the blob needs a sha256 digest and a size");
		return;
	}
	struct fetch *f = calloc(1, sizeof(*f));
	if (!f) {
		msg_failf(request, FAULT_RESOURCE_EXHAUSTED, "layer %s: out of memory", blob->digest);
		return;
	}
	f->worker = w;
	f->request = request;
	f->pull_id = m->pull_id;
	f->size = blob->size;
	f->fed = m->blob_only;
	memcpy(f->digest, blob->digest, DIGEST_SIZE);
	list_init(&f->node);
	request->cancelled = fetch_cancelled;
	request->cancelled_ctx = f;
	if (fetch_begin(f, blob, &fault) < 0)
		fetch_fail(f, &fault);
}

void fetch_abandon_all(struct image_worker *w, const char *why) {
	struct fault fault;
	size_t pos;
	struct map_node *n;
	fault_set(&fault, FAULT_CANCELLED, "%s", why);
	while ((n = map_first(&w->downloads, &pos)))
		download_end(container_of(n, struct download, node), &fault);
	while (!list_empty(&w->fetches))
		fetch_fail(list_entry(w->fetches.next, struct fetch, node), &fault);
}
