/* Who asks for a pull and is told how far it is: PullImage, the command line's
 * Pull, pull_progress. */
#include "workers/metadata/pull_private.h"

#include "base/clock.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/object/image_object.h"
#include "workers/metadata/view.h"

#include <stdio.h>
#include <string.h>

#define EVENT_NS (100 * NS_PER_MS)

/* --- progress --------------------------------------------------------------- */

static void event_fill(struct pull *p, struct arena *a, Bulkhead__V1__PullEvent *e) {
	size_t n = p->resolved && p->layers ? p->resolved->n_layers : 0;
	e->layers = arena_alloc(a, (n + 1) * sizeof(*e->layers));
	for (size_t i = 0; e->layers && i < n; i++) {
		Bulkhead__V1__PullEvent__Layer *l =
		    ARENA_NEW(a, Bulkhead__V1__PullEvent__Layer, BULKHEAD__V1__PULL_EVENT__LAYER__INIT);
		if (!l)
			return;
		const struct pull_layer *from = &p->layers[i];
		l->digest = p->resolved->layers[i]->blob->digest;
		l->total = from->total;
		l->unpacked = from->done || model_find_layer(&p->op.m->model, from->chain_id);
		l->offset = l->unpacked ? l->total : from->offset;
		e->layers[e->n_layers++] = l;
	}
}

static void events_tell(struct pull *p) {
	struct arena a;
	Bulkhead__V1__PullEvent e = BULKHEAD__V1__PULL_EVENT__INIT;
	arena_init(&a, 0);
	event_fill(p, &a, &e);
	list_for_each (n, &p->watchers)
		msg_reply(list_entry(n, struct watcher, node)->r, &e.base, NULL, 0, true);
	arena_deinit(&a);
}

static void on_event_timer(void *ctx) {
	struct pull *p = ctx;
	loop_source_free(p->event_timer);
	p->event_timer = NULL;
	events_tell(p);
}

static void event_later(struct pull *p) {
	if (list_empty(&p->watchers) || p->event_timer)
		return;
	if (loop_timer(p->op.m->loop, clock_mono() + EVENT_NS, on_event_timer, p, &p->event_timer) < 0)
		p->event_timer = NULL;
}

void pull_progress(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__PullProgress *q = (const Bulkhead__PullProgress *)request;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	list_for_each (n, &m->pulls) {
		struct pull *p = list_entry(n, struct pull, node);
		if (p->id != q->pull_id || !p->resolved)
			continue;
		for (size_t i = 0; i < p->resolved->n_layers; i++)
			if (strcmp(p->resolved->layers[i]->blob->digest, q->digest) == 0) {
				p->layers[i].offset = MIN(q->offset, p->layers[i].total);
				event_later(p);
			}
	}
	pull_progress_reply(r, &done, NULL, 0);
}

/* --- requests --------------------------------------------------------------- */

/* Joiners come from two rows; each has its own last word. */
static void pull_answer(struct op *op, struct msg_request *r) {
	struct pull *p = pull_of(op);
	char *id = p->resolved ? p->resolved->config->digest : (char *)"";
	if (r->row->number == MSG_cri_pull_image) {
		Runtime__V1__PullImageResponse a = RUNTIME__V1__PULL_IMAGE_RESPONSE__INIT;
		a.image_ref = id;
		cri_pull_image_reply(r, &a, NULL, 0);
		return;
	}
	struct arena arena;
	Bulkhead__V1__PullEvent e = BULKHEAD__V1__PULL_EVENT__INIT;
	arena_init(&arena, 0);
	event_fill(p, &arena, &e);
	e.image_ref = id;
	e.images = p->resolved ? p->resolved->images : 0;
	e.target = p->resolved ? p->resolved->target->digest : (char *)"";
	msg_reply(r, &e.base, NULL, 0, false);
	arena_deinit(&arena);
}

static void pull_free(struct op *op) {
	struct pull *p = pull_of(op);
	list_unlink(&p->node);
	loop_source_free(p->event_timer);
	pull_session_end(p);
	arena_deinit(&p->resolved_arena);
	arena_deinit(&p->arena);
	free(p);
}

static const struct op_class pull_class = {
	.name = "pull image",
	.steps = pull_steps,
	.answer = pull_answer,
	.free = pull_free,
};

static void watch(struct pull *p, struct msg_request *r) {
	if (!r->row->stream)
		return;
	struct watcher *w = arena_zalloc(&r->arena, sizeof(*w));
	if (!w)
		return;
	w->r = r;
	list_append(&p->watchers, &w->node);
	event_later(p);
}

static struct pull *pull_new(struct metadata *m, const struct reference *ref, const char *name,
			     const Bulkhead__Credentials *c, const char *key, struct msg_request *r) {
	struct pull *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	arena_init(&p->arena, 0);
	arena_init(&p->resolved_arena, 0);
	list_init(&p->watchers);
	p->key = arena_strdup(&p->arena, key);
	Bulkhead__Credentials *copy = message_copy(&p->arena, &c->base);
	if (!p->key || !copy) {
		arena_deinit(&p->arena);
		free(p);
		return NULL;
	}
	p->credentials = *copy;
	p->ref = *ref;
	snprintf(p->name, sizeof(p->name), "%s", name);
	op_init(&p->op, &pull_class, m, NULL, name, r);
	list_append(&m->pulls, &p->node);
	return p;
}

/* In k8s.io, under the registry's name for it, it is an image of the CRI. */
static bool for_cri(struct metadata *m, const Bulkhead__ImagePullRequest *q, const char *name) {
	return image_object_is_cri(m, q->image->id) && strcmp(name, q->image->id->key) == 0;
}

/* Joins the pull with this key, or begins one; into NULL: the CRI asks. */
static void pull_join(struct metadata *m, struct msg_request *r, const struct reference *ref, const char *name,
		      const Bulkhead__Credentials *c, const char *key, const Bulkhead__ImagePullRequest *into) {
	list_for_each (n, &m->pulls) {
		struct pull *p = list_entry(n, struct pull, node);
		if (key && strcmp(p->key, key) == 0) {
			op_join(&p->op, r);
			watch(p, r);
			return;
		}
	}
	struct pull *p = key ? pull_new(m, ref, name, c, key, r) : NULL;
	if (!p) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "pull image \"%s\": out of memory", name);
		return;
	}
	p->into = into ? message_copy(&p->arena, &into->base) : NULL;
	p->local = p->into ? p->into->local : NULL;
	p->objects = p->into && !for_cri(m, into, name);
	op_join(&p->op, r);
	watch(p, r);
	op_start(&p->op);
}

static char *pull_key(struct arena *a, const char *name, const Bulkhead__Credentials *c) {
	return arena_printf(a, "%s\x1f%s\x1f%s\x1f%s\x1f%s\x1f%s\x1f%s", name, c->username, c->password,
			    c->identity_token, c->registry_token, c->server_address, c->auth);
}

/* False: the request has been failed. */
static bool pull_parse(struct msg_request *r, const char *reference, struct reference *ret_ref,
		       char ret_name[REFERENCE_MAX]) {
	struct fault fault;
	if (reference_parse(reference, ret_ref, &fault) < 0) {
		fault_prefix(&fault, 0, "pull image");
		msg_fail(r, &fault);
		return false;
	}
	reference_format(ret_ref, ret_name, REFERENCE_MAX);
	return true;
}

static void pull_request(struct metadata *m, struct msg_request *r, const char *reference,
			 const Bulkhead__Credentials *c) {
	struct reference ref;
	char name[REFERENCE_MAX];
	if (pull_parse(r, reference, &ref, name))
		pull_join(m, r, &ref, name, c, pull_key(&r->arena, name, c), NULL);
}

void image_pull(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__ImagePullRequest *q = (const Bulkhead__ImagePullRequest *)request;
	Bulkhead__Credentials nobody = BULKHEAD__CREDENTIALS__INIT;
	const Bulkhead__Credentials *c = q->credentials ? q->credentials : &nobody;
	struct reference ref;
	struct fault fault;
	char name[REFERENCE_MAX];
	if (!q->image || object_key_check(q->image->id, &fault) < 0) {
		if (!q->image)
			fault_set(&fault, FAULT_INVALID_ARGUMENT,
				  "pull: it doesn't say what the image is to be called");
		msg_fail(r, &fault);
		return;
	}
	if (!pull_parse(r, q->reference, &ref, name))
		return;
	if ((q->entry || q->more_follow) && for_cri(m, q, name)) {
		msg_failf(r, FAULT_UNIMPLEMENTED,
			  "pull \"%s\": in namespace \"" NAMESPACE_CRI "\" an image is for one platform", name);
		return;
	}
	/* Two clients that want different labels are two pulls. */
	char *key = pull_key(&r->arena, name, c);
	key = key ? arena_printf(&r->arena, "%s\x1f%llu", key, (unsigned long long)r->context.request) : NULL;
	pull_join(m, r, &ref, name, c, key, q);
}

void pull_local(struct metadata *m, struct msg_request *r, const char *name, const Bulkhead__Descriptor *target,
		struct op_after *after) {
	Bulkhead__Credentials nobody = BULKHEAD__CREDENTIALS__INIT;
	struct reference ref;
	struct fault fault;
	char full[REFERENCE_MAX];
	/* No key of a request from outside looks like this. */
	char *key = arena_printf(&r->arena, "\x1f%s\x1f%s", name, target->digest);
	struct pull *p = NULL;
	if (key && reference_parse(name, &ref, &fault) == 0) {
		reference_format(&ref, full, sizeof(full));
		p = pull_new(m, &ref, full, &nobody, key, r);
	}
	if (!p) {
		after->fn(after->ctx);
		return;
	}
	p->local = message_copy(&p->arena, &target->base);
	op_wait(&p->op, after);
	op_start(&p->op);
}

void cri_pull_image(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__PullImageRequest *q = (const Runtime__V1__PullImageRequest *)request;
	Bulkhead__Credentials c = BULKHEAD__CREDENTIALS__INIT;
	if (q->auth) {
		c.username = q->auth->username;
		c.password = q->auth->password;
		c.identity_token = q->auth->identity_token;
		c.registry_token = q->auth->registry_token;
		c.server_address = q->auth->server_address;
		c.auth = q->auth->auth;
	}
	pull_request(m, r, q->image ? q->image->image : "", &c);
}

void admin_pull(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__V1__PullRequest *q = (const Bulkhead__V1__PullRequest *)request;
	Bulkhead__Credentials c = BULKHEAD__CREDENTIALS__INIT;
	c.username = q->username;
	c.password = q->password;
	pull_request(m, r, q->image, &c);
}
