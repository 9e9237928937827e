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

#include <stdlib.h>

static void require(bool condition) {
	if (!condition)
		abort();
}

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

static const char *const seeds[] = {
	"0{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"plugins\":[{\"type\":\"bridge\",\"bridge\":\"cni0\","
	"\"isGateway\":true,"
	"\"mtu\":1400,\"ipam\":{\"type\":\"host-local\",\"ranges\":[[{\"subnet\":\"10.1.0.0/"
	"16\",\"rangeStart\":\"10.1.0.9\"}],"
	"[{\"subnet\":\"fd00::/64\",\"gateway\":\"fd00::1\"}]],\"routes\":[{\"dst\":\"0.0.0.0/"
	"0\",\"gw\":\"10.1.0.1\"}]}},"
	"{\"type\":\"portmap\",\"capabilities\":{\"portMappings\":true}},{\"type\":\"tuning\",\"sysctl\":{\"a\":\"b\"}}"
	"]}",
	"0{\"cniVersions\":[\"0.4.0\",\"1.1.0\"],\"name\":\"one\",\"type\":\"ptp\",\"ipam\":{\"type\":\"host-local\","
	"\"subnet\":\"10.2.0.0/24\"},\"capabilities\":{\"bandwidth\":true}}",
	"1{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"veth1\"},{\"name\":\"eth0\",\"sandbox\":\"/proc/1/ns/"
	"net\"}],"
	"\"ips\":[{\"address\":\"10.1.0.2/16\",\"gateway\":\"10.1.0.1\",\"interface\":1},{\"address\":\"fd00::2/"
	"64\"}]}",
	"1{\"cniVersion\":\"1.0.0\",\"code\":7,\"msg\":\"no\",\"details\":\"really\"}",
};

size_t fuzz_seed(unsigned n, struct buffer *ret_seed) {
	if (n >= ARRAY_SIZE(seeds))
		return 0;
	buffer_add(ret_seed, seeds[n], strlen(seeds[n]));
	return ret_seed->size;
}
