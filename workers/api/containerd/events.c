/*
 * containerd.services.events.v1.Events: what the metadata worker tells, as
 * containerd's messages in envelopes. A subscription's filters see an
 * envelope's namespace and topic, and the strings of what is in it
 * (event.container_id).
 */
#include "workers/api/containerd/containerd.h"

#include "containerd/event_types.pb-c.h"
#include "containerd/events.pb-c.h"
#include "containerd/images.pb-c.h"

#include <string.h>
#include <strings.h>

#define E(name) Containerd__Events__##name
#define E_INIT(name) CONTAINERD__EVENTS__##name##__INIT
#define I(name) Containerd__Services__Images__V1__##name
#define I_INIT(name) CONTAINERD__SERVICES__IMAGES__V1__##name##__INIT
#define S(name) Containerd__Services__Events__V1__##name

#define SNAPSHOTTER ((char *)"overlayfs")

/* --- what is in an envelope ------------------------------------------------- */

typedef ProtobufCMessage *(*fill_fn)(struct grpc_translation *t, const Bulkhead__BusEvent *e);

/* p is the message, in the arena; the statements fill it from e. */
#define FILL(name, type, INIT, ...)                                                              \
	static ProtobufCMessage *name(struct grpc_translation *t, const Bulkhead__BusEvent *e) { \
		type *p = ARENA_NEW(t->arena, type, INIT);                                       \
		if (!p)                                                                          \
			return NULL;                                                             \
		__VA_ARGS__                                                                      \
		return &p->base;                                                                 \
	}

static E(TaskIO) * task_io(struct grpc_translation *t, const Bulkhead__BusEvent *e) {
	E(TaskIO) *io = e->stdio ? ARENA_NEW(t->arena, E(TaskIO), E_INIT(TASK_IO)) : NULL;
	if (io) {
		io->stdin = e->stdio->stdin;
		io->stdout = e->stdio->stdout;
		io->stderr = e->stdio->stderr;
		io->terminal = e->stdio->terminal;
	}
	return io;
}

FILL(task_create, E(TaskCreate), E_INIT(TASK_CREATE), p->container_id = e->id; p->pid = e->pid; p->io = task_io(t, e);)
FILL(task_start, E(TaskStart), E_INIT(TASK_START), p->container_id = e->id; p->pid = e->pid;)
FILL(task_exit, E(TaskExit), E_INIT(TASK_EXIT), p->container_id = e->id; p->id = *e->exec_id ? e->exec_id : e->id;
     p->pid = e->pid; p->exit_status = e->exit_status; p->exited_at = ctd_time(t, e->exited_at);)
FILL(task_delete, E(TaskDelete), E_INIT(TASK_DELETE), p->container_id = e->id; p->id = e->exec_id; p->pid = e->pid;
     p->exit_status = e->exit_status; p->exited_at = ctd_time(t, e->exited_at);)
FILL(task_oom, E(TaskOOM), E_INIT(TASK_OOM), p->container_id = e->id;)
FILL(exec_added, E(TaskExecAdded), E_INIT(TASK_EXEC_ADDED), p->container_id = e->id; p->exec_id = e->exec_id;)
FILL(exec_started, E(TaskExecStarted), E_INIT(TASK_EXEC_STARTED), p->container_id = e->id; p->exec_id = e->exec_id;
     p->pid = e->pid;)
FILL(task_paused, E(TaskPaused), E_INIT(TASK_PAUSED), p->container_id = e->id;)
FILL(task_resumed, E(TaskResumed), E_INIT(TASK_RESUMED), p->container_id = e->id;)

static E(ContainerCreate__Runtime) * runtime(struct grpc_translation *t, const Bulkhead__Runtime *from) {
	E(ContainerCreate__Runtime) *to =
	    from ? ARENA_NEW(t->arena, E(ContainerCreate__Runtime), E_INIT(CONTAINER_CREATE__RUNTIME)) : NULL;
	if (to) {
		to->name = from->name;
		to->options = ctd_any(t, from->options);
	}
	return to;
}

static const Bulkhead__ContainerBody *container_of_event(const Bulkhead__BusEvent *e) {
	static const Bulkhead__ContainerBody none = BULKHEAD__CONTAINER_BODY__INIT;
	return e->object && e->object->body_case == BULKHEAD__OBJECT__BODY_CONTAINER ? e->object->container : &none;
}

static const Bulkhead__SnapshotBody *snapshot_of_event(const Bulkhead__BusEvent *e) {
	static const Bulkhead__SnapshotBody none = BULKHEAD__SNAPSHOT_BODY__INIT;
	return e->object && e->object->body_case == BULKHEAD__OBJECT__BODY_SNAPSHOT ? e->object->snapshot : &none;
}

#define LABELS(p)                                        \
	if (e->object) {                                 \
		(p)->labels = (void *)e->object->labels; \
		(p)->n_labels = e->object->n_labels;     \
	}

FILL(container_create, E(ContainerCreate), E_INIT(CONTAINER_CREATE), p->id = e->id;
     p->image = container_of_event(e)->image; p->runtime = runtime(t, container_of_event(e)->runtime);)
FILL(container_update, E(ContainerUpdate), E_INIT(CONTAINER_UPDATE), p->id = e->id;
     p->image = container_of_event(e)->image; p->snapshot_key = container_of_event(e)->snapshot_key; LABELS(p))
FILL(container_delete, E(ContainerDelete), E_INIT(CONTAINER_DELETE), p->id = e->id;)
FILL(sandbox_create, E(SandboxCreate), E_INIT(SANDBOX_CREATE), p->sandbox_id = e->id;)
FILL(sandbox_start, E(SandboxStart), E_INIT(SANDBOX_START), p->sandbox_id = e->id;)
FILL(sandbox_exit, E(SandboxExit), E_INIT(SANDBOX_EXIT), p->sandbox_id = e->id; p->exit_status = e->exit_status;
     p->exited_at = ctd_time(t, e->exited_at);)
FILL(snapshot_prepare, E(SnapshotPrepare), E_INIT(SNAPSHOT_PREPARE), p->key = e->id;
     p->parent = snapshot_of_event(e)->parent; p->snapshotter = SNAPSHOTTER;)
FILL(snapshot_commit, E(SnapshotCommit), E_INIT(SNAPSHOT_COMMIT), p->key = e->id; p->snapshotter = SNAPSHOTTER;
     if (e->object && e->object->id) p->name = e->object->id->key;)
FILL(snapshot_remove, E(SnapshotRemove), E_INIT(SNAPSHOT_REMOVE), p->key = e->id; p->snapshotter = SNAPSHOTTER;)
FILL(content_create, E(ContentCreate), E_INIT(CONTENT_CREATE), p->digest = e->id;
     if (e->object && e->object->body_case == BULKHEAD__OBJECT__BODY_CONTENT)
	 p->size = (int64_t)e->object->content->size;)
FILL(content_delete, E(ContentDelete), E_INIT(CONTENT_DELETE), p->digest = e->id;)
FILL(namespace_create, E(NamespaceCreate), E_INIT(NAMESPACE_CREATE), p->name = e->id; LABELS(p))
FILL(namespace_update, E(NamespaceUpdate), E_INIT(NAMESPACE_UPDATE), p->name = e->id; LABELS(p))
FILL(namespace_delete, E(NamespaceDelete), E_INIT(NAMESPACE_DELETE), p->name = e->id;)
FILL(image_create, I(ImageCreate), I_INIT(IMAGE_CREATE), p->name = e->id; LABELS(p))
FILL(image_update, I(ImageUpdate), I_INIT(IMAGE_UPDATE), p->name = e->id; LABELS(p))
FILL(image_delete, I(ImageDelete), I_INIT(IMAGE_DELETE), p->name = e->id;)

static const struct topic {
	const char *name;
	fill_fn fill;
} topics[] = {
	{ "/tasks/create", task_create },
	{ "/tasks/start", task_start },
	{ "/tasks/exit", task_exit },
	{ "/tasks/delete", task_delete },
	{ "/tasks/oom", task_oom },
	{ "/tasks/exec-added", exec_added },
	{ "/tasks/exec-started", exec_started },
	{ "/tasks/paused", task_paused },
	{ "/tasks/resumed", task_resumed },
	{ "/containers/create", container_create },
	{ "/containers/update", container_update },
	{ "/containers/delete", container_delete },
	{ "/sandboxes/create", sandbox_create },
	{ "/sandboxes/start", sandbox_start },
	{ "/sandboxes/exit", sandbox_exit },
	{ "/snapshot/prepare", snapshot_prepare },
	{ "/snapshot/commit", snapshot_commit },
	{ "/snapshot/remove", snapshot_remove },
	{ "/content/create", content_create },
	{ "/content/delete", content_delete },
	{ "/namespaces/create", namespace_create },
	{ "/namespaces/update", namespace_update },
	{ "/namespaces/delete", namespace_delete },
	{ "/images/create", image_create },
	{ "/images/update", image_update },
	{ "/images/delete", image_delete },
};

static const struct topic *topic_find(const char *name) {
	for (size_t i = 0; i < ARRAY_SIZE(topics); i++)
		if (strcmp(topics[i].name, name) == 0)
			return &topics[i];
	return NULL;
}

/* --- filters ---------------------------------------------------------------- */

struct event_view {
	const Bulkhead__BusEvent *event;
	const ProtobufCMessage *inside; /* NULL: a client's own */
};

static const char *inside_field(const ProtobufCMessage *m, const char *name) {
	const ProtobufCFieldDescriptor *f = m ? protobuf_c_message_descriptor_get_field_by_name(m->descriptor, name)
					      : NULL;
	if (!f || f->type != PROTOBUF_C_TYPE_STRING || f->label == PROTOBUF_C_LABEL_REPEATED)
		return NULL;
	return *(char *const *)((const char *)m + f->offset);
}

static const char *event_field(const void *object, const char *const *path, size_t n_path) {
	const struct event_view *v = object;
	const char *value = NULL;
	if (n_path == 1 && strcmp(path[0], "namespace") == 0)
		value = v->event->namespace_;
	else if (n_path == 1 && strcmp(path[0], "topic") == 0)
		value = v->event->topic;
	else if (n_path == 2 && strcmp(path[0], "event") == 0)
		value = inside_field(v->inside, path[1]);
	return value && *value ? value : NULL;
}

/* --- the calls -------------------------------------------------------------- */

static int subscribe(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		     struct fault *fault) {
	const S(SubscribeRequest) *q = (const S(SubscribeRequest) *)request;
	Bulkhead__BusFollowRequest *f =
	    ARENA_NEW(t->arena, Bulkhead__BusFollowRequest, BULKHEAD__BUS_FOLLOW_REQUEST__INIT);
	if (!f)
		return grpc_no_memory(fault);
	*ret_internal = &f->base;
	return ctd_filters_keep(t, q->filters, q->n_filters, fault);
}

/* What containerd has no message for is nothing, like what no filter wants. */
static int envelope(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
		    struct fault *fault) {
	const Bulkhead__BusEvent *e = (const Bulkhead__BusEvent *)internal;
	const struct topic *topic = e->published ? NULL : topic_find(e->topic);
	struct event_view view = { .event = e };
	Containerd__Types__Envelope *v = (Containerd__Types__Envelope *)*reply;
	*reply = NULL;
	if (!topic && !e->published)
		return 0;
	if (topic && !(view.inside = topic->fill(t, e)))
		return grpc_no_memory(fault);
	if (!filters_match(t->state, event_field, &view))
		return 0;
	v->timestamp = ctd_time(t, e->time);
	v->namespace_ = e->namespace_;
	v->topic = e->topic;
	v->event = topic ? ctd_pack(t, view.inside) : ctd_any(t, e->published);
	*reply = &v->base;
	return v->event ? 0 : grpc_no_memory(fault);
}

static int publish_as(struct grpc_translation *t, char *namespace, char *topic, const Google__Protobuf__Any *event,
		      ProtobufCMessage **ret_internal, struct fault *fault) {
	Bulkhead__BusEvent *e = ARENA_NEW(t->arena, Bulkhead__BusEvent, BULKHEAD__BUS_EVENT__INIT);
	if (!e)
		return grpc_no_memory(fault);
	e->namespace_ = namespace;
	e->topic = topic;
	e->published = ctd_typed(t, event);
	*ret_internal = &e->base;
	return 0;
}

static int publish(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	const S(PublishRequest) *q = (const S(PublishRequest) *)request;
	return publish_as(t, ctd_namespace(t), q->topic, q->event, ret_internal, fault);
}

static int forward(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	const Containerd__Types__Envelope *v = ((const S(ForwardRequest) *)request)->envelope;
	if (!v)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "forward an event: the envelope is missing");
	return publish_as(t, v->namespace_, v->topic, v->event, ret_internal, fault);
}

static const struct grpc_translator on_publish = { .request = publish }, on_forward = { .request = forward },
				    on_subscribe = { subscribe, envelope };

const struct grpc_method ctd_events_methods[] = {
	{ .name = "Publish", .number = MSG_bus_publish, .translator = &on_publish },
	{ .name = "Forward", .number = MSG_bus_publish, .translator = &on_forward },
	{ .name = "Subscribe", .number = MSG_bus_follow, .translator = &on_subscribe },
	{ 0 },
};
