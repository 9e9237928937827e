/*
 * The way of an image_resolve:
 *
 *   HEAD manifests/TAG        its digest; a GET when the registry doesn't say
 *   GET  manifests/DIGEST     an index, at most INDEX_DEPTH deep: choose
 *   GET  manifests/DIGEST     the image's manifest
 *   GET  blobs/DIGEST         its config
 *
 * A document that the content store has isn't fetched again. Each one is
 * verified before it is parsed, and stored while the next is under way; the
 * answer waits for all of them to be safe on disk.
 */
#include "resolve.h"

#include "digest.h"
#include "ingest.h"
#include "manifest.h"
#include "msg/typed.h"
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INDEX_DEPTH 3
#define ARENA_MAX (64u * 1024 * 1024)

/* A document on its way to disk. */
struct put {
	struct list node;
	struct resolve *resolve;
	struct ingest *ingest;
};

struct resolve {
	struct list node;
	struct image_worker *worker;
	struct msg_request *request;
	struct session *session;
	struct arena arena;
	struct platform wanted;
	size_t entry; /* of the index, whatever its platform; 0: what is wanted */
	struct query *query;
	struct list puts;
	const Bulkhead__Descriptor *expected; /* what the document under way must be */
	unsigned depth;			      /* of indexes */
	Bulkhead__ImageResolveReply reply;
	struct manifest manifest;
	bool complete; /* but for the puts */
	bool local;    /* no registry is asked */
};

struct resolve *resolve_of(struct list *node) {
	return list_entry(node, struct resolve, node);
}

/* --- the end --------------------------------------------------------------- */

static void put_free(struct put *p) {
	list_unlink(&p->node);
	ingest_free(p->ingest);
	free(p);
}

static void resolve_free(struct resolve *r) {
	list_unlink(&r->node);
	query_cancel(r->query);
	list_for_each_safe (n, &r->puts)
		put_free(list_entry(n, struct put, node));
	session_unref(r->session);
	arena_deinit(&r->arena);
	free(r);
}

static void fail(struct resolve *r, const struct fault *fault) {
	struct msg_request *request = r->request;
	/* Nothing can follow in this pull. */
	if (session_find(r->worker, r->session->pull_id) == r->session)
		session_release(r->session);
	resolve_free(r);
	msg_fail(request, fault);
}

void resolve_abandon(struct resolve *r, const char *why) {
	struct fault fault;
	fault_set(&fault, FAULT_CANCELLED, "%s", why);
	fail(r, &fault);
}

static void cancelled(struct msg_request *request, void *ctx) {
	resolve_abandon(ctx, "the caller gave up");
}

static void finish_when_safe(struct resolve *r) {
	if (!r->complete || !list_empty(&r->puts))
		return;
	struct msg_request *request = r->request;
	if (r->local)
		session_release(r->session);
	image_resolve_reply(request, &r->reply, NULL, 0);
	resolve_free(r);
}

static int no_memory(struct fault *fault) {
	return fault_errno(fault, ENOMEM, "resolve the image");
}

/* --- storing --------------------------------------------------------------- */

static void put_done(void *ctx, const struct fault *fault) {
	struct put *p = ctx;
	struct resolve *r = p->resolve;
	struct fault copy = fault ? *fault : (struct fault){ 0 };
	put_free(p);
	if (fault) {
		fail(r, &copy);
		return;
	}
	finish_when_safe(r);
}

static void put_moved(void *ctx) {
}

static int put_document(struct resolve *r, const char *digest, const struct buffer *data, struct fault *fault) {
	struct put *p = calloc(1, sizeof(*p));
	if (!p)
		return no_memory(fault);
	p->resolve = r;
	list_init(&p->node);
	int e = ingest_new(
	    &(struct ingest_options){
		.content = r->worker->content,
		.digest = digest,
		.size = data->size,
		.moved = put_moved,
		.failed = put_done,
		.ctx = p,
	    },
	    &p->ingest, fault);
	if (e == 0) {
		e = ingest_add(p->ingest, data->data, data->size);
		if (e < 0)
			fault_errno(fault, e, "store document %s", digest);
	}
	if (e < 0) {
		put_free(p);
		return e;
	}
	list_append(&r->puts, &p->node);
	ingest_commit(p->ingest, put_done);
	return 0;
}

/* --- the config ------------------------------------------------------------ */

static void describe_layers(struct resolve *r, char **diff_ids, struct fault *fault) {
	const struct manifest *m = &r->manifest;
	Bulkhead__ImageResolveReply__Layer **layers = arena_zalloc(&r->arena, (m->n_layers + 1) * sizeof(*layers));
	Bulkhead__ImageResolveReply__Layer *all = arena_zalloc(&r->arena, (m->n_layers + 1) * sizeof(*all));
	if (!layers || !all) {
		no_memory(fault);
		fail(r, fault);
		return;
	}
	for (size_t i = 0; i < m->n_layers; i++) {
		bulkhead__image_resolve_reply__layer__init(&all[i]);
		all[i].blob = m->layers[i];
		all[i].diff_id = diff_ids[i];
		layers[i] = &all[i];
	}
	r->reply.layers = layers;
	r->reply.n_layers = m->n_layers;
	r->complete = true;
	finish_when_safe(r);
}

static void got_config(struct resolve *r, const struct buffer *data) {
	struct fault fault;
	char **diff_ids;
	if (image_config_parse(data->data, data->size, r->entry ? NULL : &r->wanted, r->manifest.n_layers, &r->arena,
			       &r->reply.image_config, &diff_ids, &fault) < 0) {
		fail(r, &fault);
		return;
	}
	describe_layers(r, diff_ids, &fault);
}

/* --- manifests ------------------------------------------------------------- */

static void get(struct resolve *r, const Bulkhead__Descriptor *expected, bool config);

static Bulkhead__Descriptor *new_descriptor(struct resolve *r, const char *media_type, const char *digest,
					    uint64_t size) {
	Bulkhead__Descriptor *d = arena_alloc(&r->arena, sizeof(*d));
	if (!d)
		return NULL;
	bulkhead__descriptor__init(d);
	d->media_type = arena_strdup(&r->arena, media_type);
	d->digest = arena_strdup(&r->arena, digest);
	d->size = size;
	return d->media_type && d->digest ? d : NULL;
}

static int choose(struct resolve *r, const struct manifest_entry **ret_entry, struct fault *fault) {
	if (r->entry == 0)
		return manifest_choose(&r->manifest, &r->wanted, ret_entry, fault);
	if (r->depth > 1)
		return fault_set(
		    fault, FAULT_UNIMPLEMENTED,
		    "an index within the index isn't brought for all platforms; name those that are wanted");
	*ret_entry = manifest_image(&r->manifest, r->entry);
	return *ret_entry ? 0
			  : fault_set(fault, FAULT_NOT_FOUND, "its index lists %zu images, there is none of number %zu",
				      manifest_images(&r->manifest), r->entry);
}

static int enter_index(struct resolve *r, struct fault *fault) {
	const struct manifest_entry *e;
	if (++r->depth > INDEX_DEPTH)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "indexes are nested more than %d deep", INDEX_DEPTH);
	int x = choose(r, &e, fault);
	if (x < 0)
		return x;
	if (r->depth == 1) {
		r->reply.images = (uint32_t)manifest_images(&r->manifest);
		r->reply.place = (uint32_t)(e - r->manifest.entries);
	}
	get(r, &e->blob, false);
	return 0;
}

static void got_manifest(struct resolve *r, const char *digest, const char *media_type, const struct buffer *data) {
	struct fault fault;
	int e = manifest_parse(data->data, data->size, media_type, &r->arena, &r->manifest, &fault);
	Bulkhead__Descriptor *d = e < 0 ? NULL : new_descriptor(r, r->manifest.media_type, digest, data->size);
	if (e == 0 && !d)
		e = no_memory(&fault);
	if (e == 0) {
		if (!r->reply.target)
			r->reply.target = d;
		if (r->manifest.kind == MANIFEST_INDEX) {
			e = enter_index(r, &fault);
		} else {
			r->reply.manifest = d;
			r->reply.config = r->manifest.config;
			get(r, r->manifest.config, true);
		}
	}
	if (e < 0)
		fail(r, &fault);
}

/* --- documents ------------------------------------------------------------- */

/* Size and digest against what was announced, or against what the registry
 * says itself when nothing was. */
static int verify(struct resolve *r, const struct transfer_response *response, char digest[DIGEST_SIZE],
		  struct fault *fault) {
	const struct buffer *body = &response->body;
	const char *said = response->head.digest;
	digest_of(body->data, body->size, digest);
	if (!digest[0])
		return no_memory(fault);
	if (r->expected && strcmp(r->expected->digest, digest) != 0)
		return fault_set(fault, FAULT_DATA_LOSS, "what came for %s has the digest %s: it is thrown away",
				 r->expected->digest, digest);
	if (r->expected && r->expected->size != UINT64_MAX && r->expected->size != body->size)
		return fault_set(fault, FAULT_DATA_LOSS, "document %s has %zu bytes, %llu were announced",
				 r->expected->digest, body->size, (unsigned long long)r->expected->size);
	if (!r->expected && digest_valid(said) && strcmp(said, digest) != 0)
		return fault_set(fault, FAULT_DATA_LOSS,
				 "the registry says that the manifest is %s, but sent %s: it is thrown away", said,
				 digest);
	return 0;
}

static int arrived(struct resolve *r, const struct transfer_response *response, char digest[DIGEST_SIZE],
		   struct fault *fault) {
	int e = verify(r, response, digest, fault);
	return e < 0 ? e : put_document(r, digest, &response->body, fault);
}

static void manifest_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct resolve *r = ctx;
	struct fault own;
	char digest[DIGEST_SIZE];
	r->query = NULL;
	if (fault)
		own = *fault;
	if (fault || arrived(r, response, digest, &own) < 0) {
		fail(r, &own);
		return;
	}
	const char *type = response->head.content_type;
	if (r->expected && r->expected->media_type[0])
		type = r->expected->media_type;
	got_manifest(r, digest, type, &response->body);
}

static void config_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct resolve *r = ctx;
	struct fault own;
	char digest[DIGEST_SIZE];
	r->query = NULL;
	if (fault)
		own = *fault;
	if (fault || arrived(r, response, digest, &own) < 0)
		fail(r, &own);
	else
		got_config(r, &response->body);
}

static void ask(struct resolve *r, const char *name, bool config) {
	struct fault fault;
	if (r->local) {
		fault_set(&fault, FAULT_NOT_FOUND, "its document %s isn't here", name);
		fail(r, &fault);
		return;
	}
	if (query_start(
		&(struct query_request){
		    .session = r->session,
		    .need = r->expected ? HOST_PULL : HOST_RESOLVE,
		    .what = config ? "blobs" : "manifests",
		    .name = name,
		    .accept = config ? NULL : MANIFEST_ACCEPT,
		    .body_max = config ? CONFIG_MAX : MANIFEST_MAX,
		    .done = config ? config_done : manifest_done,
		    .ctx = r,
		},
		&r->query, &fault) < 0)
		fail(r, &fault);
}

/* By digest: from the store, else from the registry. */
static void get(struct resolve *r, const Bulkhead__Descriptor *expected, bool config) {
	CLEANUP_BUFFER struct buffer data = { 0 };
	r->expected = expected;
	int e = content_blob_read(r->worker->content, expected->digest, config ? CONFIG_MAX : MANIFEST_MAX, &data);
	if (e < 0 || (expected->size != UINT64_MAX && expected->size != data.size))
		ask(r, expected->digest, config);
	else if (config)
		got_config(r, &data);
	else
		got_manifest(r, expected->digest, expected->media_type, &data);
}

/* --- the begin ------------------------------------------------------------- */

static void head_done(void *ctx, struct transfer_response *response, const struct fault *fault, bool again) {
	struct resolve *r = ctx;
	struct fault own;
	r->query = NULL;
	if (fault && (fault->code == FAULT_UNAVAILABLE || fault->code == FAULT_UNAUTHENTICATED)) {
		own = *fault;
		fail(r, &own);
		return;
	}
	if (fault || !digest_valid(response->head.digest)) {
		/* A GET says why not, or gives what this registry's HEAD doesn't. */
		ask(r, r->session->reference.tag, false);
		return;
	}
	const struct transfer_head *head = &response->head;
	uint64_t size = head->content_length > 0 ? (uint64_t)head->content_length : UINT64_MAX;
	Bulkhead__Descriptor *d = new_descriptor(r, head->content_type, head->digest, size);
	if (d) {
		get(r, d, false);
		return;
	}
	no_memory(&own);
	fail(r, &own);
}

static int begin(struct resolve *r, const Bulkhead__Descriptor *local, struct fault *fault) {
	const struct reference *ref = &r->session->reference;
	r->reply.repository = arena_printf(&r->arena, "%s/%s", ref->host, ref->path);
	r->reply.name = ref->tag[0] ? arena_printf(&r->arena, "%s/%s:%s", ref->host, ref->path, ref->tag)
				    : arena_strdup(&r->arena, "");
	if (!r->reply.repository || !r->reply.name)
		return no_memory(fault);
	if (local && !digest_valid(local->digest))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.100s\" is no sha256 digest", local->digest);
	if (local) {
		r->local = true;
		get(r, local, false);
		return 0;
	}
	if (ref->digest[0]) {
		Bulkhead__Descriptor *d = new_descriptor(r, "", ref->digest, UINT64_MAX);
		if (!d)
			return no_memory(fault);
		get(r, d, false);
		return 0;
	}
	return query_start(
	    &(struct query_request){
		.session = r->session,
		.need = HOST_RESOLVE,
		.what = "manifests",
		.name = ref->tag,
		.accept = MANIFEST_ACCEPT,
		.head = true,
		.done = head_done,
		.ctx = r,
	    },
	    &r->query, fault);
}

void on_image_resolve(struct image_worker *w, struct msg_request *request, const Bulkhead__ImageResolveRequest *m) {
	struct fault fault;
	struct session *session;
	if (session_new(w, m, &session, &fault) < 0) {
		msg_fail(request, &fault);
		return;
	}
	struct resolve *r = calloc(1, sizeof(*r));
	if (!r) {
		session_release(session);
		no_memory(&fault);
		msg_fail(request, &fault);
		return;
	}
	r->worker = w;
	r->request = request;
	r->session = session_ref(session);
	arena_init(&r->arena, ARENA_MAX);
	list_init(&r->puts);
	list_append(&w->resolves, &r->node);
	bulkhead__image_resolve_reply__init(&r->reply);
	r->reply.images = 1;
	r->entry = m->entry;
	const Bulkhead__Platform *p = m->platform;
	r->wanted = p && p->architecture[0] ? platform_make(p->os[0] ? p->os : "linux", p->architecture, p->variant)
					    : platform_host();
	request->cancelled = cancelled;
	request->cancelled_ctx = r;
	if (begin(r, m->local, &fault) < 0)
		fail(r, &fault);
}
