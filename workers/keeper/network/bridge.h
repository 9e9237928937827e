/*
 * The bridge plugin's work by netlink: the bridge and its gateway address on
 * the host, the veth, and the pod's end of it with addresses and routes. The
 * caller is in the pod's network namespace and has chosen the addresses.
 */
#pragma once

#include "net/address.h"
#include "network.h"

struct bridge_port {
	const char *host_ifname; /* the veth's end on the bridge; the pod's alone */
	const char *ifname;	 /* its end in the pod */
	const struct pod_address *addresses;
	size_t n_addresses;
	bool published;	     /* ports of the pod are; it may ask for them itself */
	struct netlink *pod; /* rtnetlink in the pod's namespace */
};

/* Derived from the first address, so that an address that is used again has
 * the MAC that its neighbours remember. */
void bridge_mac(const struct pod_address *addresses, size_t n, uint8_t ret_mac[6]);

int bridge_attach(const Bulkhead__NativeBridge *config, const struct bridge_port *port, struct network_host *host,
		  struct fault *fault);
