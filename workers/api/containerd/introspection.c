/*
 * containerd.services.introspection.v1.Introspection and .version.v1.Version:
 * what there is here, in the words of containerd's plugins. Clients look for a
 * snapshotter before they use it; nothing else follows from the list.
 */
#include "workers/api/containerd/runtime_info.h"
#include "workers/api/containerd/streams.h"

#include "base/version.h"
#include "containerd/introspection.pb-c.h"
#include "containerd/version.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <string.h>

#define N(name) Containerd__Services__Introspection__V1__##name
#define N_INIT(name) CONTAINERD__SERVICES__INTROSPECTION__V1__##name##__INIT
#define V(name) Containerd__Services__Version__V1__##name
#define V_INIT(name) CONTAINERD__SERVICES__VERSION__V1__##name##__INIT

#define RUNTIME "io.containerd.runtime.v2"

/* --- plugins ---------------------------------------------------------------- */

static const struct plugin {
	const char *type, *id;
	bool platform; /* it is for this machine's */
} plugins[] = {
	{ "io.containerd.content.v1", "content", false },
	{ "io.containerd.snapshotter.v1", "overlayfs", true },
	{ "io.containerd.metadata.v1", "bolt", false },
	{ "io.containerd.event.v1", "exchange", false },
	{ "io.containerd.gc.v1", "scheduler", false },
	{ "io.containerd.lease.v1", "manager", false },
	{ "io.containerd.differ.v1", "walking", true },
	{ RUNTIME, "task", true },
	{ "io.containerd.grpc.v1", "containers", false },
	{ "io.containerd.grpc.v1", "content", false },
	{ "io.containerd.grpc.v1", "cri", true },
	{ "io.containerd.grpc.v1", "diff", false },
	{ "io.containerd.grpc.v1", "events", false },
	{ "io.containerd.grpc.v1", "healthcheck", false },
	{ "io.containerd.grpc.v1", "images", false },
	{ "io.containerd.grpc.v1", "introspection", false },
	{ "io.containerd.grpc.v1", "leases", false },
	{ "io.containerd.grpc.v1", "namespaces", false },
	{ "io.containerd.grpc.v1", "sandboxes", false },
	{ "io.containerd.grpc.v1", "sandbox-controllers", false },
	{ "io.containerd.sandbox.controller.v1", "shim", false },
	{ "io.containerd.grpc.v1", "snapshots", false },
	{ "io.containerd.grpc.v1", "tasks", false },
	{ "io.containerd.grpc.v1", "version", false },
};

static const char *plugin_field(const void *object, const char *const *path, size_t n_path) {
	const struct plugin *p = object;
	if (n_path == 1 && strcmp(path[0], "type") == 0)
		return p->type;
	if (n_path == 1 && strcmp(path[0], "id") == 0)
		return p->id;
	if (n_path == 1 && strcmp(path[0], "platforms") == 0 && p->platform)
		return "linux/" CTD_ARCHITECTURE;
	return NULL;
}

static N(Plugin) * plugin_make(struct arena *a, const struct plugin *p) {
	N(Plugin) *to = ARENA_NEW(a, N(Plugin), N_INIT(PLUGIN));
	if (!to)
		return NULL;
	to->type = (char *)(uintptr_t)p->type;
	to->id = (char *)(uintptr_t)p->id;
	if (!p->platform)
		return to;
	Containerd__Types__Platform *platform = ctd_platform(a);
	if (!platform || !(to->platforms = arena_alloc(a, sizeof(*to->platforms))))
		return NULL;
	to->platforms[to->n_platforms++] = platform;
	return to;
}

static int plugins_fill(struct arena *a, const struct filters *f, N(PluginsResponse) * reply) {
	reply->plugins = arena_alloc(a, ARRAY_SIZE(plugins) * sizeof(*reply->plugins));
	for (size_t i = 0; reply->plugins && i < ARRAY_SIZE(plugins); i++) {
		if (!filters_match(f, plugin_field, &plugins[i]))
			continue;
		if (!(reply->plugins[reply->n_plugins++] = plugin_make(a, &plugins[i])))
			return -ENOMEM;
	}
	return reply->plugins ? 0 : -ENOMEM;
}

static void on_plugins(struct grpc_call *c, const ProtobufCMessage *request) {
	const N(PluginsRequest) *q = (const N(PluginsRequest) *)request;
	N(PluginsResponse) reply = N_INIT(PLUGINS_RESPONSE);
	struct filters *f = NULL;
	struct arena a;
	struct fault fault;
	arena_init(&a, 0);
	int r = filters_parse(&a, q->filters, q->n_filters, &f, &fault);
	if (r == 0 && (r = plugins_fill(&a, f, &reply)) < 0)
		grpc_no_memory(&fault);
	if (r == 0)
		grpc_reply(c, &reply.base);
	else
		grpc_fail(c, &fault);
	filters_free(f);
	arena_deinit(&a);
}

/* What is asked, until the metadata worker has said whether the runtime is one of ours:
 * longer than the request is there. */
struct plugin_asked {
	const struct plugin *plugin;
	const Containerd__Types__RuntimeRequest *runtime; /* NULL: its options aren't asked for */
};

static const struct plugin *plugin_find(const char *type, const char *id) {
	for (size_t i = 0; i < ARRAY_SIZE(plugins); i++)
		if (strcmp(plugins[i].type, type) == 0 && strcmp(plugins[i].id, id) == 0)
			return &plugins[i];
	return NULL;
}

static int plugin_info(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		       struct fault *fault) {
	const N(PluginInfoRequest) *q = (const N(PluginInfoRequest) *)request;
	Bulkhead__Key *k = ARENA_NEW(t->arena, Bulkhead__Key, BULKHEAD__KEY__INIT);
	struct plugin_asked *asked = arena_zalloc(t->kept, sizeof(*asked));
	if (!k || !asked)
		return grpc_no_memory(fault);
	if (!(asked->plugin = plugin_find(q->type, q->id)))
		return fault_set(fault, FAULT_NOT_FOUND, "plugin \"%.100s.%.100s\": not found", q->type, q->id);
	if (q->options && strcmp(q->type, RUNTIME) == 0)
		asked->runtime = ctd_any_open(q->options, &containerd__types__runtime_request__descriptor, t->kept);
	if (q->options && !asked->runtime)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "plugin \"%s.%s\" says no more of itself, whatever \"%.100s\" is", q->type, q->id,
				 q->options->type_url);
	/* The name of none is known, too. */
	k->id = asked->runtime ? asked->runtime->runtime_path : (char *)"";
	t->state = asked;
	*ret_internal = &k->base;
	return 0;
}

static int plugin_info_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			     struct fault *fault) {
	const struct plugin_asked *asked = t->state;
	N(PluginInfoResponse) *a = (N(PluginInfoResponse) *)*reply;
	if (!asked)
		return fault_set(fault, FAULT_INTERNAL, "an answer to nothing");
	const Containerd__Types__RuntimeInfo *i = asked->runtime ? runtime_info(t, asked->runtime) : NULL;
	a->plugin = plugin_make(t->arena, asked->plugin);
	a->extra = i ? ctd_pack(t, &i->base) : NULL;
	return a->plugin && (a->extra || !asked->runtime) ? 0 : grpc_no_memory(fault);
}

/* --- the daemon ------------------------------------------------------------- */

static int server(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		  struct fault *fault) {
	Bulkhead__Empty *q = ARENA_NEW(t->arena, Bulkhead__Empty, BULKHEAD__EMPTY__INIT);
	if (!q)
		return grpc_no_memory(fault);
	*ret_internal = &q->base;
	return 0;
}

static int server_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			struct fault *fault) {
	const Bulkhead__ServerInfo *i = (const Bulkhead__ServerInfo *)internal;
	N(ServerResponse) *a = (N(ServerResponse) *)*reply;
	a->uuid = i->uuid;
	a->pid = i->pid;
	a->pidns = i->pid_namespace;
	return 0;
}

static const struct grpc_translator on_server = { server, server_reply },
				    on_plugin_info = { plugin_info, plugin_info_reply };

const struct grpc_method ctd_introspection_methods[] = {
	{ .name = "Plugins", .answer = on_plugins, .access = ACCESS_METRICS },
	{ .name = "PluginInfo", .number = MSG_runtime_known, .translator = &on_plugin_info },
	{ .name = "Server", .number = MSG_server_info, .translator = &on_server },
	{ 0 },
};

/* Of the interface that is served; what serves it stands behind the plus. */
static void on_version(struct grpc_call *c, const ProtobufCMessage *request) {
	V(VersionResponse) reply = V_INIT(VERSION_RESPONSE);
	reply.version = (char *)"2.0.0+" BULKHEAD_NAME "." BULKHEAD_VERSION;
	reply.revision = (char *)BULKHEAD_NAME;
	grpc_reply(c, &reply.base);
}

const struct grpc_method ctd_version_methods[] = {
	{ .name = "Version", .answer = on_version, .access = ACCESS_METRICS },
	{ 0 },
};
