/*
 * Network configurations, and what executed plugins print. The input's first
 * byte says which of the two the rest is.
 *
 * Invariants beyond the sanitisers': what was parsed has names that are no
 * paths, and a native bridge has ranges whose addresses are of one length.
 */
#include "tests/fuzz/fuzz.h"
#include "workers/keeper/network/result.h"
#include "workers/task/cni/conflist.h"

static void check_bridge(const Bulkhead__NativeBridge *b) {
	require(b->ipam && b->ipam->n_sets > 0 && b->ipam->data_dir[0] == '/' && !strchr(b->bridge, '\n'));
	for (size_t i = 0; i < b->ipam->n_sets; i++)
		for (size_t r = 0; r < b->ipam->sets[i]->n_ranges; r++) {
			const Bulkhead__AddressRange *range = b->ipam->sets[i]->ranges[r];
			size_t n = range->subnet.len;
			require((n == 4 || n == 16) && range->first.len == n && range->last.len == n &&
				range->gateway.len == n);
			require(memcmp(range->first.data, range->last.data, n) <= 0);
		}
}

static void configuration(const char *text, size_t size) {
	struct conflist list;
	struct fault fault;
	struct arena arena;
	arena_init(&arena, 0);
	if (conflist_parse(text, size, "/cache", &arena, &list, &fault) == 0) {
		require(list.n_plugins > 0 && *list.name && !strchr(list.name, '/'));
		for (size_t i = 0; i < list.n_plugins; i++) {
			const Bulkhead__NetworkPlan__Plugin *p = list.plugins[i];
			require(*p->type && !strchr(p->type, '/'));
			if (p->native_case == BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE)
				check_bridge(p->bridge);
			require((p->native_case != BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE__NOT_SET) ==
				!*p->config_json);
		}
	} else {
		require(*fault.text && fault.code != FAULT_NONE);
	}
	arena_deinit(&arena);
}

static void output(const char *text) {
	struct pod_address addresses[4];
	struct cni_error error;
	size_t n = 0;
	if (cni_result_addresses(text, "eth0", addresses, ARRAY_SIZE(addresses), &n) == 0)
		for (size_t i = 0; i < n; i++)
			require(addresses[i].address.prefix <= address_bits(&addresses[i].address));
	cni_error_parse(text, &error);
	free(cni_config_with_previous("{\"type\":\"x\"}", text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size == 0)
		return 0;
	char *text = malloc(size);
	require(text != NULL);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	if (data[0] & 1)
		output(text);
	else
		configuration(text, size - 1);
	free(text);
	return 0;
}
