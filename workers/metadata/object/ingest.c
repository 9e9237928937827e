/*
 * What clients write: the rows ingest_open, _sync, _commit and _abort. The bytes
 * go from the API to the image worker, through descriptors that pass through
 * here; here is kept what is being written, until it is content.
 *
 *   open    record -> the image worker takes one end of a pipe -> answer, with
 *           the other end
 *   commit  the image worker makes a blob of the bytes -> content's record, in
 *           place of the ingest's -> answer
 *
 * A crash within a commit leaves a blob that nobody has; the next commit of it
 * finds it, or gc_content does.
 */
#include "workers/metadata/object/ingest.h"

#include "base/fd.h"
#include "base/sha256.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/object/object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define PIPE_SIZE (256 * 1024)

#define INGEST BULKHEAD__OBJECT_KIND__OBJECT_INGEST
#define CONTENT BULKHEAD__OBJECT_KIND__OBJECT_CONTENT

/* --- ingests and the image worker's writes ---------------------------------- */

char *ingest_write_id(const Bulkhead__ObjectKey *id, struct write_id *ret_id) {
	char text[2 * OBJECT_KEY_MAX];
	int n = snprintf(text, sizeof(text), "%s/%s", id->namespace_, id->key);
	sha256_digest(text, (size_t)n, ret_id->digest);
	return ret_id->digest + strlen("sha256:");
}

/* The record and what leases say of it. */
static int forget(struct metadata *m, struct object *x) {
	object_release(&m->objects, x->record->id);
	return object_drop(&m->objects, x);
}

void ingest_drop(struct metadata *m, struct object *x) {
	struct write_id id;
	char *ids[] = { ingest_write_id(x->record->id, &id) };
	Bulkhead__KeyList q = BULKHEAD__KEY_LIST__INIT;
	q.ids = ids;
	q.n_ids = 1;
	/* The record goes first: bytes without one are gone after a while. */
	if (forget(m, x) == 0)
		write_remove_send(m->image, NULL, &q, NULL, 0, NULL, NULL);
}

void ingest_status(const Bulkhead__Object *o, const Bulkhead__WriteState *s, Bulkhead__IngestStatus *ret_status) {
	ret_status->ref = o->id->key;
	ret_status->started_at = o->created_at;
	ret_status->updated_at = o->updated_at;
	ret_status->total = o->ingest->total;
	ret_status->expected = o->ingest->expected;
	if (!s)
		return;
	ret_status->updated_at = s->updated_at;
	ret_status->offset = s->offset;
	ret_status->digest = s->digest;
}

/* A request that waits for the image worker; in its arena. */
struct ingest_call {
	struct metadata *m;
	struct msg_request *r;
	Bulkhead__ObjectKey id;
	const Bulkhead__IngestCommitRequest *commit;
	int fd; /* for who asked */
};

/* NULL: the request has been failed. */
static struct ingest_call *call_new(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id) {
	struct ingest_call *c = arena_alloc(&r->arena, sizeof(*c));
	if (c)
		*c = (struct ingest_call){ .m = m, .r = r, .id = *id, .fd = -1 };
	else
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
	return c;
}

static struct object *ingest_of(struct metadata *m, const Bulkhead__ObjectKey *id) {
	return id->kind == INGEST ? object_find(&m->objects, INGEST, id->namespace_, id->key) : NULL;
}

static void fail_from_image(struct ingest_call *c, const struct fault *fault) {
	struct fault f = *fault;
	char text[OBJECT_TEXT_MAX];
	fault_prefix(&f, 0, "%s", object_text(&c->id, text));
	msg_fail(c->r, &f);
}

static void answered(void *ctx, const struct msg_answer *answer) {
	struct ingest_call *c = ctx;
	CLEANUP_FD int fd = take_fd(&c->fd);
	Bulkhead__IngestStatus s = BULKHEAD__INGEST_STATUS__INIT;
	const struct object *x = ingest_of(c->m, &c->id);
	if (answer->fault) {
		fail_from_image(c, answer->fault);
	} else if (!x) {
		msg_failf(c->r, FAULT_ABORTED, "ingest \"%.200s\" was given up meanwhile", c->id.key);
	} else {
		ingest_status(x->record, (const Bulkhead__WriteState *)answer->reply, &s);
		msg_reply(c->r, &s.base, &fd, fd >= 0 ? 1 : 0, false);
	}
}

/* --- opening ---------------------------------------------------------------- */

/* What its writers know by now about what it will be. */
static int ingest_learn(struct metadata *m, struct object *x, const Bulkhead__IngestBody *b) {
	Bulkhead__Object changed = *x->record;
	Bulkhead__IngestBody body = *x->record->ingest;
	if (!b || ((!*b->expected || strcmp(b->expected, body.expected) == 0) && (!b->total || b->total == body.total)))
		return 0;
	changed.ingest = &body;
	body.total = b->total ? b->total : body.total;
	body.expected = *b->expected ? b->expected : body.expected;
	return object_replace(&m->objects, x, &changed);
}

static int ingest_ensure(struct metadata *m, const Bulkhead__Object *o) {
	struct object *x = object_find(&m->objects, INGEST, o->id->namespace_, o->id->key);
	if (!x) {
		o->ingest->leased = *o->held_by != '\0';
		return object_add(&m->objects, o, &x);
	}
	int r = object_hold(&m->objects, o->held_by, o->id);
	return r < 0 ? r : ingest_learn(m, x, o->ingest);
}

/* The namespace has it: then the lease holds it, and nobody has to write it. */
static bool there_is(struct metadata *m, struct msg_request *r, const Bulkhead__Object *o) {
	Bulkhead__ObjectKey id = object_key_of(CONTENT, o->id->namespace_, o->ingest->expected);
	if (!*o->ingest->expected || !object_look(m, &r->arena, &id))
		return false;
	int e = object_hold(&m->objects, o->held_by, &id);
	if (e < 0)
		object_fail_store(r, &id, e);
	else
		msg_failf(r, FAULT_ALREADY_EXISTS, "content %s: already exists", id.key);
	return true;
}

static void open_pipe(struct ingest_call *c, const Bulkhead__IngestBody *b) {
	Bulkhead__WriteOpenRequest q = BULKHEAD__WRITE_OPEN_REQUEST__INIT;
	struct write_id id;
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0) {
		msg_failf(c->r, FAULT_RESOURCE_EXHAUSTED, "open ingest \"%.200s\": %s", c->id.key,
			  strerrordesc_np(errno));
		return;
	}
	CLEANUP_FD int read_end = ends[0];
	c->fd = ends[1];
	fcntl(c->fd, F_SETPIPE_SZ, PIPE_SIZE); /* a smaller one works, too */
	q.id = ingest_write_id(&c->id, &id);
	q.expected = b->expected;
	q.total = b->total;
	write_open_send(c->m->image, &c->r->context, &q, &read_end, 1, answered, c);
}

void ingest_open(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__IngestOpenRequest *q = (const Bulkhead__IngestOpenRequest *)request;
	Bulkhead__ObjectKey id = object_key_of(INGEST, q->namespace_, q->ref);
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	Bulkhead__IngestBody nothing = BULKHEAD__INGEST_BODY__INIT;
	struct fault fault;
	o.id = &id;
	o.body_case = BULKHEAD__OBJECT__BODY_INGEST;
	o.ingest = q->ingest ? q->ingest : &nothing;
	o.held_by = q->held_by;
	if (object_check(&o, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (there_is(m, r, &o))
		return;
	int e = ingest_ensure(m, &o);
	if (e < 0) {
		object_fail_store(r, &id, e);
		return;
	}
	struct ingest_call *c = call_new(m, r, &id);
	if (c)
		open_pipe(c, o.ingest);
}

/* --- writing ---------------------------------------------------------------- */

/* NULL: the request has been failed. */
static struct ingest_call *call_for(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id) {
	struct fault fault;
	if (!id || object_key_check(id, &fault) < 0) {
		if (!id)
			fault_set(&fault, FAULT_INVALID_ARGUMENT, "%s: it names no ingest", r->row->name);
		msg_fail(r, &fault);
		return NULL;
	}
	if (!ingest_of(m, id)) {
		object_fail_missing(r, id);
		return NULL;
	}
	return call_new(m, r, id);
}

void ingest_sync(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__IngestSyncRequest *q = (const Bulkhead__IngestSyncRequest *)request;
	Bulkhead__WriteSyncRequest w = BULKHEAD__WRITE_SYNC_REQUEST__INIT;
	struct write_id id;
	struct ingest_call *c = call_for(m, r, q->id);
	if (!c)
		return;
	w.id = ingest_write_id(q->id, &id);
	w.offset = q->offset;
	w.restart = q->restart;
	write_sync_send(m->image, &r->context, &w, NULL, 0, answered, c);
}

/* --- committing ------------------------------------------------------------- */

/* The content that the commit makes, in the request's arena. */
static Bulkhead__Object *content_of(struct ingest_call *c, const char *digest, uint64_t size) {
	Bulkhead__Object *o = arena_alloc(&c->r->arena, sizeof(*o));
	Bulkhead__ObjectKey *id = arena_alloc(&c->r->arena, sizeof(*id));
	Bulkhead__ContentBody *b = arena_alloc(&c->r->arena, sizeof(*b));
	if (!o || !id || !b)
		return NULL;
	*o = (Bulkhead__Object)BULKHEAD__OBJECT__INIT;
	*b = (Bulkhead__ContentBody)BULKHEAD__CONTENT_BODY__INIT;
	*id = object_key_of(CONTENT, c->id.namespace_, digest);
	b->size = size;
	o->id = id;
	o->body_case = BULKHEAD__OBJECT__BODY_CONTENT;
	o->content = b;
	if (c->commit->content) {
		o->labels = c->commit->content->labels;
		o->n_labels = c->commit->content->n_labels;
		o->held_by = c->commit->content->held_by;
	}
	return o;
}

/* The blob is there; from here on the namespace has it. */
static void blob_done(struct ingest_call *c, const Bulkhead__WriteState *s) {
	struct metadata *m = c->m;
	struct object *x = ingest_of(m, &c->id), *made;
	Bulkhead__IngestStatus a = BULKHEAD__INGEST_STATUS__INIT;
	Bulkhead__Object *o = content_of(c, s->digest, s->offset);
	int e = o ? 0 : -ENOMEM;
	if (o && object_look(m, &c->r->arena, o->id)) {
		e = object_hold(&m->objects, o->held_by, o->id);
		e = e < 0 ? e : -EEXIST;
	} else if (o) {
		e = object_add(&m->objects, o, &made);
	}
	a.digest = s->digest;
	a.offset = s->offset;
	if (x && (e == 0 || e == -EEXIST) && forget(m, x) < 0)
		e = -ENOMEM;
	if (e == 0)
		object_answer(m, c->r, STORE_IMAGES, &a.base);
	else if (e == -EEXIST)
		msg_failf(c->r, FAULT_ALREADY_EXISTS, "content %s: already exists", s->digest);
	else
		object_fail_store(c->r, o ? o->id : &c->id, e);
}

static void commit_done(void *ctx, const struct msg_answer *answer) {
	struct ingest_call *c = ctx;
	c->m->commits--;
	if (answer->fault)
		fail_from_image(c, answer->fault);
	else
		blob_done(c, write_commit_answer(answer));
}

/* What can be refused is refused before anything is done. */
static int commit_check(struct ingest_call *c, struct fault *fault) {
	const Bulkhead__IngestBody *b = c->commit->ingest;
	char any[DIGEST_SIZE];
	sha256_digest("", 0, any);
	Bulkhead__Object *o = content_of(c, b && *b->expected ? b->expected : any, 0);
	return o ? object_check(o, fault) : fault_errno(fault, ENOMEM, "commit");
}

/* It is there already: the ingest was for nothing. */
static bool commit_for_nothing(struct ingest_call *c, struct object *x) {
	const Bulkhead__IngestBody *b = c->commit->ingest;
	Bulkhead__Object o = BULKHEAD__OBJECT__INIT;
	if (!b)
		return false;
	o.id = &c->id;
	o.ingest = (Bulkhead__IngestBody *)(uintptr_t)b;
	if (c->commit->content)
		o.held_by = c->commit->content->held_by;
	if (!there_is(c->m, c->r, &o))
		return false;
	ingest_drop(c->m, x);
	return true;
}

void ingest_commit(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__IngestCommitRequest *q = (const Bulkhead__IngestCommitRequest *)request;
	Bulkhead__WriteCommitRequest w = BULKHEAD__WRITE_COMMIT_REQUEST__INIT;
	struct write_id id;
	struct fault fault;
	struct ingest_call *c = call_for(m, r, q->id);
	if (!c)
		return;
	c->commit = q;
	struct object *x = ingest_of(m, q->id);
	if (commit_check(c, &fault) < 0) {
		msg_fail(r, &fault);
		return;
	}
	if (commit_for_nothing(c, x))
		return;
	w.id = ingest_write_id(q->id, &id);
	w.offset = q->offset;
	w.size = q->ingest ? q->ingest->total : 0;
	w.digest = q->ingest ? q->ingest->expected : (char *)"";
	m->commits++;
	write_commit_send(m->image, &r->context, &w, NULL, 0, commit_done, c);
}

void ingest_abort(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ObjectKey *id = (const Bulkhead__ObjectKey *)request;
	if (!call_for(m, r, id))
		return;
	ingest_drop(m, ingest_of(m, id));
	object_answer(m, r, STORE_PODS, NULL);
}
