/*
 * CreateContainer: snapshot_prepare -> snapshot_mount of each volume, to see that
 * it can be made -> record.
 *
 * A container that is being made has its name in the model from the first
 * moment, so that the same request joins it, and no created_at, so that nobody
 * sees it. It needs no record before: a snapshot without one is garbage.
 */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "base/log.h"
#include "msg/message_json.h"
#include "workers/metadata/check.h"
#include "workers/metadata/container.h"
#include "workers/metadata/image.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/object/object.h"
#include "workers/metadata/privileges.h"
#include "workers/metadata/restore.h"
#include "workers/metadata/spec/spec.h"
#include "workers/metadata/sweep.h"
#include "workers/metadata/userns.h"
#include "workers/metadata/volume.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SNAPSHOT_TIMEOUT_NS (120 * NS_PER_SEC)

void container_op_free(struct op *op) {
	free(container_of(op, struct container_op, op));
}

struct container *container_of_op(struct op *op) {
	return container_of(op, struct container_op, op)->c;
}

struct container_op *container_op_new(struct metadata *m, const struct op_class *class, struct container *c,
				      struct msg_request *r) {
	struct container_op *co = calloc(1, sizeof(*co));
	if (!co) {
		msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", class->name);
		return NULL;
	}
	op_init(&co->op, class, m, &c->op, c->record->config->metadata->name, r);
	co->c = c;
	snprintf(co->id, sizeof(co->id), "%s", c->record->id);
	op_join(&co->op, r);
	return co;
}

int container_spec(struct metadata *m, struct container *c, struct arena *a, Grpc__Spec **ret_spec,
		   struct fault *fault) {
	char host[HOST_NAME_MAX + 1] = "";
	const struct spec_input in = {
		.sandbox = c->sandbox->record,
		.container = c->record,
		.pods_dir = arena_printf(a, "%s/pods", m->config->run_root),
		.hostname = arena_strdup(a, gethostname(host, sizeof(host) - 1) == 0 ? host : ""),
	};
	if (!in.pods_dir || !in.hostname)
		return fault_errno(fault, ENOMEM, "build the runtime spec");
	return spec_build(a, &in, ret_spec, fault);
}

/* --- create ----------------------------------------------------------------- */

static void create_prepared(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	if (answer->fault)
		op_fail_with(op, answer->fault);
	else
		op_next(op);
}

static void create_prepare(struct op *op) {
	struct container *c = container_of_op(op);
	Bulkhead__SnapshotPrepareRequest q = BULKHEAD__SNAPSHOT_PREPARE_REQUEST__INIT;
	q.key = c->record->id;
	q.n_parents = c->record->n_layers;
	q.parents = c->record->layers;
	const Runtime__V1__UserNamespace *u = userns_of(c->sandbox->record->config);
	struct arena a;
	arena_init(&a, 0);
	if (u) {
		q.uid_mappings = userns_map(&a, u->uids, u->n_uids, &q.n_uid_mappings);
		q.gid_mappings = userns_map(&a, u->gids, u->n_gids, &q.n_gid_mappings);
	}
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	snapshot_prepare_send(op->m->snapshot, &context, &q, NULL, 0, create_prepared, op);
	arena_deinit(&a);
}

static void create_look(struct op *op);

/* The mount goes with the answer: the start makes its own. */
static void create_looked(void *ctx, const struct msg_answer *answer) {
	struct op *op = ctx;
	struct container_op *co = container_of(op, struct container_op, op);
	if (!answer->fault) {
		co->volume++;
		create_look(op);
		return;
	}
	struct fault fault = *answer->fault;
	volume_prefix(co->c->record, co->volume, &fault);
	op_fail_below(op, &fault);
}

static void create_look(struct op *op) {
	struct container_op *co = container_of(op, struct container_op, op);
	Bulkhead__SnapshotMountRequest q = BULKHEAD__SNAPSHOT_MOUNT_REQUEST__INIT;
	if (co->volume == co->c->record->n_volumes) {
		op_next(op);
		return;
	}
	volume_request(co->c->record, co->volume, &q);
	struct msg_context context = op_context(op, SNAPSHOT_TIMEOUT_NS);
	snapshot_mount_send(op->m->snapshot, &context, &q, NULL, 0, create_looked, op);
}

/* The container leaves with its snapshot. */
static void create_undo(struct op *op) {
	struct container *c = container_of_op(op);
	char key[KEY_SIZE];
	container_key(c->record->id, key);
	if (store_delete(op->m->store, STORE_PODS, key) < 0)
		log_event(LOG_WARN, "record not deleted", "container", c->record->id, NULL);
	op->slot = NULL;
	model_drop_container(&op->m->model, c);
	sweep_container(op->m, c, NULL);
}

static void create_record(struct op *op) {
	struct container *c = container_of_op(op);
	c->record->created_at = clock_real();
	int r = container_save(op->m, c);
	if (r < 0) {
		op_fail_store(op, r);
		return;
	}
	op_commit(op, STORE_PODS);
	events_add(&op->m->events, EVENT_CREATED, c->record->sandbox_id, c->record->id);
	container_view_tell(op->m, CONTAINER_NEWS_MADE, c);
}

static const struct op_step create_steps[] = {
	{ .name = "prepare its snapshot", .run = create_prepare, .undo = create_undo },
	{ .name = "look at its volumes", .run = create_look },
	{ .name = "record", .run = create_record },
	{ .name = NULL },
};

static void create_answer(struct op *op, struct msg_request *r) {
	Runtime__V1__CreateContainerResponse a = RUNTIME__V1__CREATE_CONTAINER_RESPONSE__INIT;
	a.container_id = container_of(op, struct container_op, op)->id;
	cri_create_container_reply(r, &a, NULL, 0);
}

static const struct op_class create_class = {
	.name = "create container",
	.steps = create_steps,
	.answer = create_answer,
	.free = container_op_free,
};

/* The container of this name is there already. */
static void create_again(struct container *c, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ContainerMetadata *name = c->record->config->metadata;
	const Runtime__V1__ContainerConfig *config = ((const Runtime__V1__CreateContainerRequest *)request)->config;
	bool made = !c->op && c->record->phase != BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED;
	if ((made || (c->op && c->op->class == &create_class)) &&
	    !message_same(&c->record->config->base, &config->base))
		attempt_taken(r, "create container", name->name, name->attempt, c->record->id);
	else if (c->op && c->op->class == &create_class)
		op_join(c->op, r);
	else if (c->op)
		op_requeue(c->op, r, request, cri_create_container);
	else if (c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_ENDED)
		msg_failf(r, FAULT_ALREADY_EXISTS,
			  "create container \"%s\": attempt %u of it has ended (%s): remove it first", name->name,
			  name->attempt, c->record->id);
	else {
		Runtime__V1__CreateContainerResponse a = RUNTIME__V1__CREATE_CONTAINER_RESPONSE__INIT;
		a.container_id = c->record->id;
		cri_create_container_reply(r, &a, NULL, 0);
	}
}

/* What the container takes from its image stays with it, whatever happens to
 * the image later. */
static void take_image(const struct image *i, Bulkhead__ContainerRecord *record) {
	record->image_id = i->record->id;
	record->image_ref = i->record->n_digests ? i->record->digests[0] : i->record->id;
	record->image_config = i->record->image_config;
	record->n_layers = i->record->n_layers;
	record->layers = i->record->layers;
}

/* What the container had changed lies on its image's layers. */
static int take_checkpoint(const struct restore_source *s, Bulkhead__ContainerRecord *record, struct arena *a) {
	Bulkhead__ContainerRestore *restore = arena_alloc(a, sizeof(*restore));
	char **layers = arena_alloc(a, (s->n_layers + 1) * sizeof(*layers));
	if (!restore || !layers)
		return -ENOMEM;
	if (s->n_layers)
		memcpy(layers, s->layers, s->n_layers * sizeof(*layers));
	layers[s->n_layers] = s->diff;
	record->layers = layers;
	record->n_layers = s->n_layers + 1;
	*restore = (Bulkhead__ContainerRestore)BULKHEAD__CONTAINER_RESTORE__INIT;
	restore->layer = s->layer;
	restore->pipes = s->pipes;
	record->restore = restore;
	return 0;
}

/* source NULL: it isn't restored. */
static int take_root(struct metadata *m, const struct restore_source *source, Bulkhead__ContainerRecord *record,
		     struct arena *a, struct fault *fault) {
	struct image *i = NULL;
	int r = source ? 0 : image_find(m, record->config->image->image, &i, fault);
	if (r < 0)
		return r;
	take_image(source ? source->image : i, record);
	r = source ? take_checkpoint(source, record, a) : 0;
	return r < 0 ? fault_errno(fault, r, "keep its record") : 0;
}

static int create_record_of(struct metadata *m, const struct sandbox *s, const Runtime__V1__CreateContainerRequest *q,
			    const struct restore_source *source, struct container **ret_container,
			    struct fault *fault) {
	Bulkhead__ContainerRecord record = BULKHEAD__CONTAINER_RECORD__INIT;
	struct arena a;
	char id[ID_SIZE];
	id_random(id);
	record.id = id;
	record.sandbox_id = s->record->id;
	record.config = q->config;
	arena_init(&a, 0);
	int r = take_root(m, source, &record, &a, fault);
	if (r == 0)
		r = volumes_take(m, &record, &a, fault);
	if (r == 0 && !(*ret_container = model_add_container(&m->model, &record)))
		r = fault_errno(fault, errno, "keep its record");
	arena_deinit(&a);
	return r;
}

/* criu doesn't ask what the request allows. */
static int check_privileges(struct arena *a, const Grpc__Spec *spec, const struct restore_source *source,
			    struct fault *fault) {
	char digest[DIGEST_SIZE];
	int r = privileges_digest(a, spec, digest);
	if (r < 0)
		return fault_errno(fault, r, "compare its privileges");
	if (strcmp(digest, source->privileges) == 0)
		return 0;
	return fault_set(fault, FAULT_FAILED_PRECONDITION,
			 "the checkpoint is of a container with another security context, other devices or other "
			 "mounts: what is restored must be asked for as it was");
}

static int create_make(struct metadata *m, struct sandbox *s, const Runtime__V1__CreateContainerRequest *q,
		       const struct restore_source *source, struct container **ret_container, struct fault *fault) {
	Grpc__Spec *spec;
	struct container *c;
	int r = create_record_of(m, s, q, source, &c, fault);
	if (r < 0)
		return r;
	/* Whatever can't run is refused now, not at its start. */
	struct arena a;
	arena_init(&a, 0);
	r = container_spec(m, c, &a, &spec, fault);
	if (r == 0 && source)
		r = check_privileges(&a, spec, source, fault);
	arena_deinit(&a);
	if (r < 0) {
		model_free_container(&m->model, c);
		return r;
	}
	if (source)
		restore_taken(m, source);
	*ret_container = c;
	return 0;
}

static void create(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request,
		   const struct restore_source *source) {
	const Runtime__V1__CreateContainerRequest *q = (const Runtime__V1__CreateContainerRequest *)request;
	struct sandbox *s;
	struct container *c;
	struct fault fault;
	int e = check_container_config(q->config, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "create container");
		msg_fail(r, &fault);
		return;
	}
	const char *name = q->config->metadata->name;
	e = model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault);
	if (e == 0 && s->op) {
		op_requeue(s->op, r, request, cri_create_container);
		return;
	}
	if (e == 0 && s->record->phase != BULKHEAD__SANDBOX_PHASE__SANDBOX_UP)
		e = fault_set(&fault, FAULT_FAILED_PRECONDITION, "pod sandbox \"%s\" isn't ready", s->record->id);
	c = e == 0 ? model_container_by_name(&m->model, s->record->id, q->config->metadata) : NULL;
	if (c) {
		create_again(c, r, request);
		return;
	}
	if (e == 0 && restore_wanted(q->config) && !source) {
		restore_prepare(m, r, q, s->record->id, create);
		return;
	}
	if (e == 0)
		e = create_make(m, s, q, source, &c, &fault);
	if (e < 0) {
		fault_prefix(&fault, 0, "create container \"%s\"", name);
		msg_fail(r, &fault);
		return;
	}
	struct container_op *co = container_op_new(m, &create_class, c, r);
	if (co)
		op_start(&co->op);
	else
		model_free_container(&m->model, c);
}

void cri_create_container(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	if (!metadata_gate(m, r, request, cri_create_container))
		create(m, r, request, NULL);
}
