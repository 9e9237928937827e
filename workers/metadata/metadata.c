#include "workers/metadata/metadata.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "workers/metadata/handlers.h"
#include "workers/metadata/csandbox/csandbox.h"
#include "workers/metadata/ctask/ctask.h"
#include "workers/metadata/gc.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/object/collect.h"
#include "workers/metadata/made.h"
#include "workers/metadata/pull.h"
#include "workers/metadata/reconcile.h"
#include "workers/metadata/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define READ_PATIENCE_NS (1 * NS_PER_SEC)

/* --- loading the records ---------------------------------------------------- */

/* Records are decoded in an arena and copied into their objects. */
static void *record_decode(const ProtobufCMessageDescriptor *type, const struct record *r, struct arena *a) {
	return msg_decode(type, a, r->data, r->size);
}

static int load_sandbox(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__SandboxRecord *q = record_decode(&bulkhead__sandbox_record__descriptor, r, a);
	return q && model_add_sandbox(&m->model, q) ? 0 : -EBADMSG;
}

static int load_container(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__ContainerRecord *q = record_decode(&bulkhead__container_record__descriptor, r, a);
	return q && q->config && q->config->image && model_add_container(&m->model, q) ? 0 : -EBADMSG;
}

static int load_image(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__ImageRecord *q = record_decode(&bulkhead__image_record__descriptor, r, a);
	return q && q->image_config && q->target && model_put_image(&m->model, q, NULL, 0, NULL) ? 0 : -EBADMSG;
}

static int load_layer(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__LayerRecord *q = record_decode(&bulkhead__layer_record__descriptor, r, a);
	return q && model_add_layer(&m->model, q) ? 0 : -EBADMSG;
}

static int load_event(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__EventRecord *q = record_decode(&bulkhead__event_record__descriptor, r, a);
	return q ? events_load(&m->events, q) : -EBADMSG;
}

static int load_object(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__Object *q = record_decode(&bulkhead__object__descriptor, r, a);
	return q ? objects_load(&m->objects, q) : -EBADMSG;
}

static int load_ctask(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__CtaskRecord *q = record_decode(&bulkhead__ctask_record__descriptor, r, a);
	struct ctask *t;
	int e = q && q->task && q->stdio ? ctask_add(&m->ctasks, q, &t) : -EBADMSG;
	if (e == 0)
		t->made = true;
	return e;
}

static int load_csandbox(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__CsandboxRecord *q = record_decode(&bulkhead__csandbox_record__descriptor, r, a);
	struct csandbox *s;
	int e = q && q->pod ? csandbox_add(&m->csandboxes, q, &s) : -EBADMSG;
	if (e == 0)
		s->made = true;
	return e;
}

static int load_checkpoint(struct metadata *m, const struct record *r, struct arena *a) {
	Bulkhead__CheckpointRecord *q = record_decode(&bulkhead__checkpoint_record__descriptor, r, a);
	return q ? made_load(m, q) : -EBADMSG;
}

static const struct record_kind {
	const char *prefix;
	enum record_type type;
	enum store_base base;
	int (*load)(struct metadata *m, const struct record *r, struct arena *a);
	const char *damage;
} kinds[] = {
	{ "s/", RECORD_SANDBOX, STORE_PODS, load_sandbox, "the record is no pod sandbox, or a second one of its name" },
	{ "c/", RECORD_CONTAINER, STORE_PODS, load_container,
	  "the record is no container, or its pod sandbox is missing" },
	{ "e/", RECORD_EVENT, STORE_PODS, load_event, "the record is no event" },
	{ "i/", RECORD_IMAGE, STORE_IMAGES, load_image, "the record is no image" },
	{ "l/", RECORD_LAYER, STORE_IMAGES, load_layer, "the record is no layer" },
	{ "o/", RECORD_OBJECT, STORE_IMAGES, load_object, "the record is no object, or a second one of its name" },
	{ "o/", RECORD_OBJECT, STORE_PODS, load_object, "the record is no object, or a second one of its name" },
	{ "p/", RECORD_CSANDBOX, STORE_PODS, load_csandbox,
	  "the record is no sandbox's run time, or a second one of its name" },
	{ "k/", RECORD_CHECKPOINT, STORE_IMAGES, load_checkpoint, "the record is no checkpoint, or a second one" },
	{ "t/", RECORD_CTASK, STORE_PODS, load_ctask, "the record is no task, or a second one of its container" },
};

struct loading {
	struct metadata *m;
	const struct record_kind *kind; /* others are passed over */
	enum store_base base;
};

/* Called for all records of a database, once per kind: containers need their
 * sandboxes first. What is of no kind at all is set aside in the first round. */
static int load_record(void *ctx, const struct record *r, const char **ret_reason) {
	struct loading *l = ctx;
	if (r->type != l->kind->type) {
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			if (kinds[i].type == r->type && kinds[i].base == l->base)
				return 0;
		*ret_reason = "the record is of a kind that doesn't belong here";
		return -EBADMSG;
	}
	struct arena a;
	arena_init(&a, 0);
	int e = strncmp(r->key, l->kind->prefix, 2) == 0 ? l->kind->load(l->m, r, &a) : -EBADMSG;
	arena_deinit(&a);
	if (e < 0)
		*ret_reason = l->kind->damage;
	return e;
}

static void load(struct metadata *m) {
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct loading l = { .m = m, .kind = &kinds[i], .base = kinds[i].base };
		store_load(m->store, kinds[i].base, load_record, &l);
	}
}

/* After a boot of the machine nothing of what ran runs any more. */
static void notice_boot(struct metadata *m) {
	list_for_each_safe (n, &m->model.sandboxes) {
		struct sandbox *s = list_entry(n, struct sandbox, node);
		if (strcmp(s->record->boot_id, m->boot_id) != 0 &&
		    s->record->phase == BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
			sandbox_went_down(m, s);
	}
}

/* --- the gate --------------------------------------------------------------- */

struct gated {
	struct list node;
	struct msg_request *r;
	const ProtobufCMessage *request;
	void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request);
};

static void gate_add(struct list *gate, struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		     void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)) {
	struct gated *g = arena_zalloc(&r->arena, sizeof(*g));
	if (!g) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", r->row->name);
		return;
	}
	*g = (struct gated){ .r = r, .request = request, .handle = handle };
	list_append(gate, &g->node);
}

bool metadata_gate(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		   void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)) {
	if (!m->reconciled)
		gate_add(&m->gate, m, r, request, handle);
	return !m->reconciled;
}

bool metadata_gate_read(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
			void (*handle)(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)) {
	bool shut = !m->readable;
	if (shut)
		gate_add(&m->read_gate, m, r, request, handle);
	return shut;
}

static void gate_release(struct metadata *m, struct list *gate) {
	for (struct list *n; (n = list_pop(gate));) {
		struct gated *g = list_entry(n, struct gated, node);
		g->handle(m, g->r, g->request);
	}
}

static void on_read_timer(void *ctx) {
	struct metadata *m = ctx;
	loop_source_free(m->read_timer);
	m->read_timer = NULL;
	m->readable = true;
	gate_release(m, &m->read_gate);
}

void metadata_open_gate(struct metadata *m) {
	m->reconciled = true;
	units_compare(m);
	on_read_timer(m);
	gate_release(m, &m->gate);
}

/* --- peers ------------------------------------------------------------------ */

static void info_done(void *ctx, const struct msg_answer *answer) {
	struct metadata *m = ctx;
	if (answer->fault)
		return;
	arena_deinit(&m->info_arena);
	arena_init(&m->info_arena, 0);
	m->info = message_copy(&m->info_arena, answer->reply);
}

void metadata_link_up(struct metadata *m, enum role peer) {
	Bulkhead__Empty q = BULKHEAD__EMPTY__INIT;
	switch (peer) {
	case ROLE_TASK:
		reconcile_begin(m);
		break;
	case ROLE_SNAPSHOT:
		snapshot_info_send(m->snapshot, NULL, &q, NULL, 0, info_done, m);
		gc_snapshots(m);
		break;
	case ROLE_IMAGE:
		gc_content(m);
		index_later(m);
		break;
	default:
		break;
	}
}

void metadata_link_down(struct metadata *m, enum role peer) {
	if (peer == ROLE_SYSTEMD)
		m->units_ready = false;
	if (peer == ROLE_IMAGE || peer == ROLE_SNAPSHOT)
		m->losses++;
}

/* Its virtual machine has ended. What the host has for it waits to be stopped. */
static void sandbox_lost(struct metadata *m, const char *id) {
	struct map_node *n = map_find(&m->model.sandbox_ids, id);
	struct sandbox *s = n ? container_of(n, struct sandbox, by_id) : NULL;
	if (!s || s->op || s->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		return;
	sandbox_went_down(m, s);
	s->network_down = false;
}

void task_exited(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__TaskExit *e = (const Bulkhead__TaskExit *)request;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	if (!e->container_id[0]) {
		sandbox_lost(m, e->sandbox_id);
		csandbox_lost(m, e->sandbox_id);
	}
	struct map_node *n =
	    !e->container_id[0] || ctask_exited(m, e) ? NULL : map_find(&m->model.container_ids, e->container_id);
	struct container *c = n ? container_of(n, struct container, by_id) : NULL;
	if (c && c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP) {
		if (exit_is_of(e, c->record->task))
			container_ended(m, c, e);
	} else if (c && c->op && c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_MADE)
		/* Its start is on the way: container_started finds it. */
		c->record->exit = message_copy(&c->arena, &e->base);
	task_exited_reply(r, &done, NULL, 0);
}

void sandbox_kept(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__SandboxKept *k = (const Bulkhead__SandboxKept *)request;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	struct map_node *n = map_find(&m->model.sandbox_ids, k->sandbox_id);
	if (n)
		unit_keeper_seen(m, container_of(n, struct sandbox, by_id), k->keeper_pid);
	else
		csandbox_kept(m, k);
	sandbox_kept_reply(r, &done, NULL, 0);
}

void units_state(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Bulkhead__UnitsState *s = (const Bulkhead__UnitsState *)request;
	Bulkhead__Empty done = BULKHEAD__EMPTY__INIT;
	m->units_ready = s->ready;
	snprintf(m->units_why, sizeof(m->units_why), "%s", s->message);
	units_state_reply(r, &done, NULL, 0);
	units_compare(m);
}

/* --- life ------------------------------------------------------------------- */

int metadata_init(struct metadata *m, struct loop *loop, const struct boot_config *config, struct fault *fault) {
	char dir[BOOT_PATH_MAX + 16];
	m->loop = loop;
	m->config = config;
	m->pull_id = (uint64_t)clock_real();
	model_init(&m->model);
	objects_init(&m->objects);
	ctasks_init(&m->ctasks);
	csandboxes_init(&m->csandboxes);
	bus_init(&m->bus);
	events_init(&m->events);
	list_init(&m->gate);
	list_init(&m->read_gate);
	list_init(&m->ops);
	list_init(&m->sweeps);
	list_init(&m->made);
	list_init(&m->pulls);
	map_init(&m->layer_jobs);
	arena_init(&m->runtime_arena, 0);
	arena_init(&m->info_arena, 0);
	snprintf(dir, sizeof(dir), "%s/metadata", config->state_root);
	int r = store_open(loop, dir, &m->store, fault);
	if (r == 0)
		r = server_identify(&m->server, dir, fault);
	if (r < 0)
		return r;
	m->objects.store = m->bus.store = m->store;
	m->objects.bus = &m->bus;
	load(m);
	leases_end(m, NULL);
	/* The CRI's, which has no client to make it. */
	if (object_namespace(&m->objects, NAMESPACE_CRI) < 0)
		log_event(LOG_WARN, "the namespace \"" NAMESPACE_CRI "\" isn't there", NULL);
	collect_later(m);
	events_begin(&m->events, m->store);
	notice_boot(m);
	r = loop_timer(loop, clock_mono() + READ_PATIENCE_NS, on_read_timer, m, &m->read_timer);
	return r < 0 ? fault_errno(fault, r, "start a timer") : 0;
}

void metadata_deinit(struct metadata *m) {
	ops_abandon(m);
	loop_source_free(m->read_timer);
	loop_source_free(m->reconcile_timer);
	loop_source_free(m->gc_timer);
	loop_source_free(m->index_timer);
	loop_source_free(m->collect_timer);
	events_deinit(&m->events);
	bus_deinit(&m->bus);
	store_close(m->store);
	made_free_all(m);
	model_deinit(&m->model);
	ctasks_deinit(&m->ctasks);
	csandboxes_deinit(&m->csandboxes);
	objects_deinit(&m->objects);
	map_deinit(&m->layer_jobs);
	arena_deinit(&m->runtime_arena);
	arena_deinit(&m->info_arena);
}
