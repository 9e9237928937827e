#include "workers/api/containerd/metrics.h"

#include "containerd/tasks.pb-c.h"

#include <string.h>

#define T(name) Containerd__Services__Tasks__V1__##name
#define T_INIT(name) CONTAINERD__SERVICES__TASKS__V1__##name##__INIT

Google__Protobuf__Any *metric_pack(struct grpc_translation *t, const char *url, const ProtobufCMessage *m) {
	Google__Protobuf__Any *any = ARENA_NEW(t->arena, Google__Protobuf__Any, GOOGLE__PROTOBUF__ANY__INIT);
	size_t size = protobuf_c_message_get_packed_size(m);
	if (!any || !(any->value.data = arena_alloc(t->arena, size + 1)))
		return NULL;
	any->type_url = (char *)(uintptr_t)url;
	any->value.len = protobuf_c_message_pack(m, any->value.data);
	return any;
}

/* --- the call --------------------------------------------------------------- */

struct measured {
	struct grpc_translation *t;
	const Bulkhead__TaskStats *stats;
};

static const char *measured_field(const void *object, const char *const *path, size_t n_path) {
	const struct measured *m = object;
	if (n_path == 1 && strcmp(path[0], "id") == 0)
		return m->stats->container_id;
	return n_path == 1 && strcmp(path[0], "namespace") == 0 ? ctd_namespace(m->t) : NULL;
}

/* Only tasks that the filters can want are measured. */
static int metrics(struct grpc_translation *t, const ProtobufCMessage *request, ProtobufCMessage **ret_internal,
		   struct fault *fault) {
	const T(MetricsRequest) *q = (const T(MetricsRequest) *)request;
	Bulkhead__CtaskMetricsRequest *m =
	    ARENA_NEW(t->arena, Bulkhead__CtaskMetricsRequest, BULKHEAD__CTASK_METRICS_REQUEST__INIT);
	const char **ids = arena_alloc(t->arena, FILTERS_MAX * sizeof(*ids));
	struct filters *f;
	int r = m && ids ? filters_parse(t->kept, q->filters, q->n_filters, &f, fault) : grpc_no_memory(fault);
	if (r < 0)
		return r;
	t->state = f;
	t->state_free = ctd_filters_free;
	m->namespace_ = ctd_namespace(t);
	if (filters_demand(f, "id", ids, &m->n_container_ids))
		m->container_ids = (char **)ids;
	*ret_internal = &m->base;
	return *m->namespace_ ? 0 : fault_set(fault, FAULT_INVALID_ARGUMENT, "a namespace is required");
}

Containerd__Types__Metric *ctd_metric(struct grpc_translation *t, const Bulkhead__TaskStats *s, char *id) {
	Containerd__Types__Metric *m = ARENA_NEW(t->arena, Containerd__Types__Metric, CONTAINERD__TYPES__METRIC__INIT);
	if (!m || !(m->data = s->unified ? metrics_v2(t, s) : metrics_v1(t, s)))
		return NULL;
	m->timestamp = ctd_time(t, s->timestamp);
	m->id = id;
	return m;
}

static int metrics_reply(struct grpc_translation *t, const ProtobufCMessage *internal, ProtobufCMessage **reply,
			 struct fault *fault) {
	const Bulkhead__CtaskMetrics *l = (const Bulkhead__CtaskMetrics *)internal;
	T(MetricsResponse) *a = (T(MetricsResponse) *)*reply;
	if (!(a->metrics = arena_alloc(t->arena, (l->n_stats + 1) * sizeof(*a->metrics))))
		return grpc_no_memory(fault);
	for (size_t i = 0; i < l->n_stats; i++) {
		struct measured m = { .t = t, .stats = l->stats[i] };
		if (filters_match(t->state, measured_field, &m) &&
		    !(a->metrics[a->n_metrics++] = ctd_metric(t, l->stats[i], l->stats[i]->container_id)))
			return grpc_no_memory(fault);
	}
	return 0;
}

const struct grpc_translator ctd_metrics = { metrics, metrics_reply };
