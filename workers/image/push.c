/*
 * One push. What it is made of is found out first, in the store (push_plan.c);
 * then item by item, what others name before what names them:
 *
 *   HEAD blobs/DIGEST            it is there: the next one
 *   POST blobs/uploads/          201: the registry has it from another repository
 *                                202: the Location to put it to
 *   PUT  LOCATION&digest=DIGEST  the bytes as one
 *
 * and documents by HEAD and PUT manifests/TAG, or DIGEST. All of it goes to one
 * host, the first that takes pushes. Where the connection breaks, the item is
 * begun anew a few times.
 */
#include "push.h"

#include "push_plan.h"
#include "msg/typed.h"
#include "registry.h"

#include "base/clock.h"
#include "base/fd.h"

#include <stdio.h>
#include <string.h>

#define ATTEMPTS 4
#define FIRST_DELAY_MS 250
#define TELL_NS (100 * NS_PER_MS)

struct push {
	struct list node;
	struct image_worker *worker;
	struct msg_request *request;
	const Bulkhead__RegistryPushRequest *m;
	struct session *session;
	struct arena arena;
	struct push_plan plan;
	size_t at; /* in the plan */
	size_t host;
	struct query *query;
	struct transfer_file file; /* of the item */
	unsigned attempt;
	struct loop_source *retry;
	int64_t told;
};

static void item_begin(struct push *p);

static void push_free(struct push *p) {
	list_unlink(&p->node);
	loop_source_free(p->retry);
	query_cancel(p->query);
	fd_close(p->file.fd);
	session_unref(p->session);
	arena_deinit(&p->arena);
	free(p);
}

static void fail(struct push *p, const struct fault *fault) {
	struct msg_request *request = p->request;
	struct fault copy = *fault;
	push_free(p);
	msg_fail(request, &copy);
}

void push_abandon_all(struct image_worker *w, const char *why) {
	struct fault fault;
	fault_set(&fault, FAULT_CANCELLED, "%s", why);
	while (!list_empty(&w->pushes))
		fail(list_entry(w->pushes.next, struct push, node), &fault);
}

static void cancelled(struct msg_request *request, void *ctx) {
	struct fault fault;
	fault_set(&fault, FAULT_CANCELLED, "the caller gave up");
	fail(ctx, &fault);
}

static struct push_item *item_of(struct push *p) {
	return &p->plan.items[p->at];
}

/* --- progress --------------------------------------------------------------- */

static void tell(struct push *p, bool last) {
	Bulkhead__PushEvent e = BULKHEAD__PUSH_EVENT__INIT;
	struct arena a;
	arena_init(&a, 0);
	e.blobs = arena_alloc(&a, (p->plan.n + 1) * sizeof(*e.blobs));
	for (; e.blobs && e.n_blobs < p->plan.n; e.n_blobs++)
		e.blobs[e.n_blobs] = &p->plan.items[e.n_blobs].event;
	msg_reply(p->request, &e.base, NULL, 0, !last);
	arena_deinit(&a);
	p->told = clock_mono();
}

static void sent(void *ctx, uint64_t offset) {
	struct push *p = ctx;
	item_of(p)->event.offset = offset;
	if (clock_mono() - p->told >= TELL_NS)
		tell(p, false);
}

/* --- items ------------------------------------------------------------------ */

static void finish(struct push *p) {
	tell(p, true);
	push_free(p);
}

static void item_done(struct push *p, Bulkhead__PushEvent__State state) {
	struct push_item *i = item_of(p);
	i->event.state = state;
	i->event.offset = i->event.blob->size;
	fd_close_p(&p->file.fd);
	p->attempt = 0;
	if (++p->at == p->plan.n) {
		finish(p);
		return;
	}
	tell(p, false);
	item_begin(p);
}

static void on_retry(void *ctx) {
	struct push *p = ctx;
	loop_source_free_p(&p->retry);
	item_begin(p);
}

/* Again, if that may help. */
static void item_failed(struct push *p, const struct fault *fault, bool again) {
	int64_t delay = ((int64_t)FIRST_DELAY_MS << p->attempt) * NS_PER_MS;
	struct fault copy = *fault;
	fd_close_p(&p->file.fd);
	if (again && ++p->attempt < ATTEMPTS &&
	    loop_timer(p->worker->loop, clock_mono() + delay, on_retry, p, &p->retry) == 0)
		return;
	fault_prefix(&copy, 0, "upload %s", item_of(p)->event.blob->digest);
	fail(p, &copy);
}

static void ask(struct push *p, struct query_request *q) {
	struct fault fault;
	q->session = p->session;
	q->need = HOST_PUSH;
	q->one_host = true;
	q->host = p->host;
	q->ctx = p;
	if (query_start(q, &p->query, &fault) < 0)
		item_failed(p, &fault, false);
}

/* The top one has the name that the registry is to know. */
static const char *name_of(struct push *p) {
	const struct reference *r = &p->session->reference;
	return p->at + 1 == p->plan.n && r->tag[0] ? r->tag : item_of(p)->event.blob->digest;
}

/* --- the bytes -------------------------------------------------------------- */

static void put_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct push *p = ctx;
	const char *digest = item_of(p)->event.blob->digest;
	struct fault own;
	p->query = NULL;
	if (fault) {
		item_failed(p, fault, again);
	} else if (response->head.digest[0] && strcmp(response->head.digest, digest) != 0) {
		fault_set(&own, FAULT_DATA_LOSS, "the registry says that it got %s", response->head.digest);
		item_failed(p, &own, false);
	} else {
		item_done(p, BULKHEAD__PUSH_EVENT__STATE__UPLOADED);
	}
}

/* url NULL: it is a document. */
static void put(struct push *p, const char *url) {
	const struct push_item *i = item_of(p);
	struct fault fault;
	int fd;
	int r = content_blob_open(p->worker->content, i->event.blob->digest, i->event.blob->size, &fd);
	if (r < 0) {
		fault_set(&fault, FAULT_NOT_FOUND, "it isn't here any more");
		item_failed(p, &fault, false);
		return;
	}
	fd_replace(&p->file.fd, fd);
	p->file.size = i->event.blob->size;
	item_of(p)->event.state = BULKHEAD__PUSH_EVENT__STATE__UPLOADING;
	tell(p, false);
	ask(p, &(struct query_request){
		   .what = "manifests",
		   .name = name_of(p),
		   .url = url,
		   .put = &p->file,
		   .content_type = i->document ? i->event.blob->media_type : "application/octet-stream",
		   .done = put_done,
	       });
}

/* --- where to --------------------------------------------------------------- */

static int upload_url(struct push *p, const char *location, char **ret_url) {
	const struct session *s = p->session;
	CLEANUP_FREE char *base = NULL;
	if (!location[0])
		return -EINVAL;
	if (asprintf(&base, "%s/%s/blobs/uploads/", s->hosts.list[p->host].base, s->reference.path) < 0) {
		base = NULL;
		return -ENOMEM;
	}
	int r = url_join(base, location, ret_url);
	return r < 0 ? r : url_add(ret_url, "digest", item_of(p)->event.blob->digest);
}

static void post_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct push *p = ctx;
	CLEANUP_FREE char *url = NULL;
	struct fault own;
	p->query = NULL;
	if (fault) {
		item_failed(p, fault, again);
	} else if (response->head.status == 201) {
		item_done(p, BULKHEAD__PUSH_EVENT__STATE__EXISTS);
	} else if (upload_url(p, response->head.location, &url) < 0) {
		fault_set(&own, FAULT_UNAVAILABLE, "the registry doesn't say where to upload it to (%d)",
			  response->head.status);
		item_failed(p, &own, false);
	} else {
		put(p, url);
	}
}

/* Another repository of the same registry may have it. */
static const char *mount_from(struct push *p) {
	struct reference r;
	struct fault ignored;
	const struct reference *to = &p->session->reference;
	if (!*p->m->mount_from || reference_parse(p->m->mount_from, &r, &ignored) < 0 ||
	    strcmp(r.host, to->host) != 0 || strcmp(r.path, to->path) == 0)
		return NULL;
	return arena_strdup(&p->arena, r.path);
}

static void post(struct push *p) {
	const char *digest = item_of(p)->event.blob->digest;
	const char *from = mount_from(p);
	const char *name = from ? arena_printf(&p->arena, "uploads/?mount=%s&from=%s", digest, from) : "uploads/";
	struct fault fault;
	if (!name) {
		fault_errno(&fault, ENOMEM, "push");
		item_failed(p, &fault, false);
		return;
	}
	ask(p, &(struct query_request){ .what = "blobs", .name = name, .post = true, .done = post_done });
}

static void head_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct push *p = ctx;
	const struct push_item *i = item_of(p);
	p->query = NULL;
	bool there = !fault && (!i->document || strcmp(response->head.digest, i->event.blob->digest) == 0);
	if (fault && fault->code != FAULT_NOT_FOUND)
		item_failed(p, fault, again);
	else if (there)
		item_done(p, BULKHEAD__PUSH_EVENT__STATE__EXISTS);
	else if (i->document)
		put(p, NULL);
	else
		post(p);
}

static void item_begin(struct push *p) {
	const struct push_item *i = item_of(p);
	ask(p, &(struct query_request){
		   .what = i->document ? "manifests" : "blobs",
		   .name = i->document ? name_of(p) : i->event.blob->digest,
		   .accept = i->document ? i->event.blob->media_type : NULL,
		   .head = true,
		   .done = head_done,
	       });
}

/* --- the beginning ---------------------------------------------------------- */

static int host_choose(struct push *p, struct fault *fault) {
	const struct hosts *h = &p->session->hosts;
	while (p->host < h->n && !(h->list[p->host].capabilities & HOST_PUSH))
		p->host++;
	return p->host < h->n ? 0
			      : fault_set(fault, FAULT_FAILED_PRECONDITION, "no host of hosts.toml may be pushed to");
}

static int begin(struct push *p, struct fault *fault) {
	const Bulkhead__RegistryPushRequest *m = p->m;
	int r = m->target && digest_valid(m->target->digest)
		    ? 0
		    : fault_set(fault, FAULT_INVALID_ARGUMENT, "what is to be pushed has no sha256 digest");
	if (r == 0)
		r = session_open(p->worker, m->reference, m->credentials, m->plain_http, &p->session, fault);
	if (r == 0)
		r = host_choose(p, fault);
	if (r == 0 && p->session->reference.digest[0] && strcmp(p->session->reference.digest, m->target->digest) != 0)
		r = fault_set(fault, FAULT_INVALID_ARGUMENT, "it is %s, and can't be pushed as %s", m->target->digest,
			      p->session->reference.digest);
	return r < 0 ? r : push_plan_make(p->worker->content, &p->arena, m->target, &p->plan, fault);
}

void on_registry_push(struct image_worker *w, struct msg_request *request, const Bulkhead__RegistryPushRequest *m) {
	struct fault fault;
	struct push *p = calloc(1, sizeof(*p));
	if (!p) {
		msg_failf(request, FAULT_RESOURCE_EXHAUSTED, "out of memory");
		return;
	}
	*p = (struct push){ .worker = w, .request = request, .m = m, .file = { .fd = -1, .sent = sent, .ctx = p } };
	arena_init(&p->arena, 0);
	list_append(&w->pushes, &p->node);
	request->cancelled = cancelled;
	request->cancelled_ctx = p;
	if (begin(p, &fault) < 0) {
		fail(p, &fault);
		return;
	}
	tell(p, false);
	item_begin(p);
}
