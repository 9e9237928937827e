/* ListPodSandbox, ListContainers, both in parts too, PodSandboxStatus,
 * ContainerStatus: answered from memory, at once. Views are made in an arena of their own, because the
 * request's is sized for the request. */
#include "workers/metadata/handlers.h"

#include "base/clock.h"
#include "workers/metadata/filter.h"
#include "workers/metadata/info.h"
#include "workers/metadata/lifecycle.h"
#include "workers/metadata/parts.h"
#include "workers/metadata/view.h"

static void no_memory(struct msg_request *r, const char *what) {
	msg_failf(r, FAULT_RESOURCE_EXHAUSTED, "%s: out of memory", what);
}

static size_t list_sandboxes(struct metadata *m, struct arena *arena, const Runtime__V1__PodSandboxFilter *filter,
			     Runtime__V1__PodSandbox ***ret_items) {
	Runtime__V1__PodSandbox **items =
	    arena_alloc(arena, (m->model.sandbox_ids.n_nodes + 1) * sizeof(Runtime__V1__PodSandbox *));
	size_t count = 0;
	list_for_each (n, &m->model.sandboxes) {
		const struct sandbox *s = list_entry(n, struct sandbox, node);
		if (filter_sandbox(filter, s) && items && (items[count] = view_sandbox(arena, s)))
			count++;
	}
	*ret_items = items;
	return count;
}

void cri_list_pod_sandbox(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ListPodSandboxRequest *q = (const Runtime__V1__ListPodSandboxRequest *)request;
	Runtime__V1__ListPodSandboxResponse a = RUNTIME__V1__LIST_POD_SANDBOX_RESPONSE__INIT;
	struct arena arena;
	if (metadata_gate_read(m, r, request, cri_list_pod_sandbox))
		return;
	arena_init(&arena, 0);
	a.n_items = list_sandboxes(m, &arena, q->filter, &a.items);
	cri_list_pod_sandbox_reply(r, &a, NULL, 0);
	arena_deinit(&arena);
}

void cri_stream_pod_sandboxes(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__StreamPodSandboxesRequest *q = (const Runtime__V1__StreamPodSandboxesRequest *)request;
	Runtime__V1__PodSandbox **items;
	struct arena arena;
	if (metadata_gate_read(m, r, request, cri_stream_pod_sandboxes))
		return;
	arena_init(&arena, 0);
	size_t n = list_sandboxes(m, &arena, q->filter, &items);
	PARTS_REPLY(cri_stream_pod_sandboxes, r, Runtime__V1__StreamPodSandboxesResponse,
		    RUNTIME__V1__STREAM_POD_SANDBOXES_RESPONSE__INIT, pod_sandboxes, items, n);
	arena_deinit(&arena);
}

static size_t list_containers(struct metadata *m, struct arena *arena, const Runtime__V1__ContainerFilter *filter,
			      Runtime__V1__Container ***ret_items) {
	Runtime__V1__Container **items =
	    arena_alloc(arena, (m->model.container_ids.n_nodes + 1) * sizeof(Runtime__V1__Container *));
	size_t count = 0;
	list_for_each (n, &m->model.containers) {
		const struct container *c = list_entry(n, struct container, node);
		if (filter_container(filter, c) && items && (items[count] = view_container(arena, c)))
			count++;
	}
	*ret_items = items;
	return count;
}

void cri_list_containers(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ListContainersRequest *q = (const Runtime__V1__ListContainersRequest *)request;
	Runtime__V1__ListContainersResponse a = RUNTIME__V1__LIST_CONTAINERS_RESPONSE__INIT;
	struct arena arena;
	if (metadata_gate_read(m, r, request, cri_list_containers))
		return;
	arena_init(&arena, 0);
	a.n_containers = list_containers(m, &arena, q->filter, &a.containers);
	cri_list_containers_reply(r, &a, NULL, 0);
	arena_deinit(&arena);
}

void cri_stream_containers(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__StreamContainersRequest *q = (const Runtime__V1__StreamContainersRequest *)request;
	Runtime__V1__Container **items;
	struct arena arena;
	if (metadata_gate_read(m, r, request, cri_stream_containers))
		return;
	arena_init(&arena, 0);
	size_t n = list_containers(m, &arena, q->filter, &items);
	PARTS_REPLY(cri_stream_containers, r, Runtime__V1__StreamContainersResponse,
		    RUNTIME__V1__STREAM_CONTAINERS_RESPONSE__INIT, containers, items, n);
	arena_deinit(&arena);
}

/* --- pod sandbox ------------------------------------------------------------ */

void cri_pod_sandbox_status(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__PodSandboxStatusRequest *q = (const Runtime__V1__PodSandboxStatusRequest *)request;
	Runtime__V1__PodSandboxStatusResponse a = RUNTIME__V1__POD_SANDBOX_STATUS_RESPONSE__INIT;
	Runtime__V1__PodSandboxStatusResponse__InfoEntry info =
	    RUNTIME__V1__POD_SANDBOX_STATUS_RESPONSE__INFO_ENTRY__INIT;
	Runtime__V1__PodSandboxStatusResponse__InfoEntry *infos[] = { &info };
	struct arena arena;
	struct sandbox *s;
	struct fault fault;
	if (metadata_gate_read(m, r, request, cri_pod_sandbox_status))
		return;
	if (model_find_sandbox(&m->model, q->pod_sandbox_id, &s, &fault) < 0) {
		fault_prefix(&fault, 0, "status of pod sandbox");
		msg_fail(r, &fault);
		return;
	}
	arena_init(&arena, 0);
	a.status = view_sandbox_status(&arena, s);
	a.n_containers_statuses = view_container_statuses(m, &arena, s, &a.containers_statuses);
	a.timestamp = clock_real();
	if (q->verbose) {
		info.key = (char *)"info";
		info.value = info_sandbox(&arena, s);
		a.n_info = 1;
		a.info = infos;
	}
	if (!a.status || !info.value)
		no_memory(r, "status of pod sandbox");
	else
		cri_pod_sandbox_status_reply(r, &a, NULL, 0);
	arena_deinit(&arena);
}

/* --- container -------------------------------------------------------------- */

void cri_container_status(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	const Runtime__V1__ContainerStatusRequest *q = (const Runtime__V1__ContainerStatusRequest *)request;
	Runtime__V1__ContainerStatusResponse a = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INIT;
	Runtime__V1__ContainerStatusResponse__InfoEntry info = RUNTIME__V1__CONTAINER_STATUS_RESPONSE__INFO_ENTRY__INIT;
	Runtime__V1__ContainerStatusResponse__InfoEntry *infos[] = { &info };
	struct arena arena;
	struct container *c;
	struct fault fault;
	if (metadata_gate_read(m, r, request, cri_container_status))
		return;
	if (model_find_container(&m->model, q->container_id, &c, &fault) < 0) {
		fault_prefix(&fault, 0, "status of container");
		msg_fail(r, &fault);
		return;
	}
	arena_init(&arena, 0);
	a.status = view_container_status(m, &arena, c);
	if (q->verbose) {
		info.key = (char *)"info";
		info.value = info_container(m, &arena, c);
		a.n_info = 1;
		a.info = infos;
	}
	if (!a.status || !info.value)
		no_memory(r, "status of container");
	else
		cri_container_status_reply(r, &a, NULL, 0);
	arena_deinit(&arena);
}
