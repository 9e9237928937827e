/*
 * JSON at the border to executed plugins: their results, their errors, and the
 * configuration with the result of the plugin before. json-c lives here only.
 */
#pragma once

#include "internal/keeper.pb-c.h"
#include "net/address.h"

#include <stddef.h>

struct cni_error {
	unsigned code;
	char message[256], details[512];
};

/* Is text a plugin's error object? */
bool cni_error_parse(const char *text, struct cni_error *ret_error);

/* The pod's own addresses in a result: those on the interface named ifname in
 * a namespace, or those on no interface. -EBADMSG when it's no result,
 * -EOVERFLOW with more than room. */
int cni_result_addresses(const char *result, const char *ifname, struct pod_address *ret_addresses, size_t room,
			 size_t *ret_n);

/* What a native bridge did, for a plugin that comes after it. */
struct cni_made {
	const char *version; /* of the configuration */
	const char *bridge, *host_ifname, *ifname, *netns;
	uint8_t mac[6];
	const struct pod_address *addresses;
	size_t n_addresses;
	const Bulkhead__HostLocal *ipam; /* its routes */
	bool default_gateway;
};
/* JSON, the caller's to free; NULL when out of memory. */
char *cni_result_compose(const struct cni_made *made);

/* config with result as its prevResult; the caller's to free. NULL when one of
 * them is no JSON object or memory is out. */
char *cni_config_with_previous(const char *config, const char *result);

/* Does DEL get the result too? From 0.4.0 on. */
bool cni_version_has_cached_result(const char *version);
