#include "workers/metadata/userns.h"

#include "workers/metadata/check.h"

const Runtime__V1__UserNamespace *userns_of(const Runtime__V1__PodSandboxConfig *c) {
	const Runtime__V1__UserNamespace *u = sandbox_namespaces(c)->userns_options;
	return u && u->mode == RUNTIME__V1__NAMESPACE_MODE__POD ? u : NULL;
}

static int check_map(const char *what, Runtime__V1__IDMapping *const *map, size_t n, struct fault *fault) {
	if (n != 1)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a user namespace has one mapping of %s, not %zu", what,
				 n);
	if (map[0]->container_id != 0 || map[0]->length == 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the mapping of %s doesn't begin with 0 inside", what);
	if (map[0]->host_id == 0 || (uint64_t)map[0]->host_id + map[0]->length > UINT32_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the mapping of %s is to %u and %u following, which can't be", what, map[0]->host_id,
				 map[0]->length - 1);
	return 0;
}

int userns_check(const Runtime__V1__PodSandboxConfig *c, struct fault *fault) {
	const Runtime__V1__NamespaceOption *n = sandbox_namespaces(c);
	const Runtime__V1__UserNamespace *u = n->userns_options;
	if (!u || u->mode == RUNTIME__V1__NAMESPACE_MODE__NODE)
		return 0;
	if (u->mode != RUNTIME__V1__NAMESPACE_MODE__POD)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the user namespace of a pod is its own or the node's");
	if (n->network == RUNTIME__V1__NAMESPACE_MODE__NODE || n->ipc == RUNTIME__V1__NAMESPACE_MODE__NODE ||
	    n->pid == RUNTIME__V1__NAMESPACE_MODE__NODE)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "a pod with a user namespace can't have the node's network, IPC or PID namespace");
	int r = check_map("user ids", u->uids, u->n_uids, fault);
	return r < 0 ? r : check_map("group ids", u->gids, u->n_gids, fault);
}

bool userns_same_map(Runtime__V1__IDMapping *const *a, size_t n_a, Runtime__V1__IDMapping *const *b, size_t n_b) {
	bool same = n_a == n_b;
	for (size_t i = 0; same && i < n_a; i++)
		same = a[i]->host_id == b[i]->host_id && a[i]->container_id == b[i]->container_id &&
		       a[i]->length == b[i]->length;
	return same;
}

Bulkhead__IdMapping **userns_map(struct arena *a, Runtime__V1__IDMapping *const *map, size_t n, size_t *ret_n) {
	Bulkhead__IdMapping **list = arena_zalloc(a, (n + 1) * sizeof(*list));
	*ret_n = 0;
	for (size_t i = 0; list && i < n; i++) {
		Bulkhead__IdMapping *m = arena_alloc(a, sizeof(*m));
		if (!m)
			return NULL;
		*m = (Bulkhead__IdMapping)BULKHEAD__ID_MAPPING__INIT;
		m->host_id = map[i]->host_id;
		m->container_id = map[i]->container_id;
		m->length = map[i]->length;
		list[(*ret_n)++] = m;
	}
	return list;
}
