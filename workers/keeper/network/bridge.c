/*
 * Owns the order of things on a bridge: bridge, gateway, forwarding, veth, pod.
 * Each step is idempotent against other keepers that do the same at the same
 * time; what belongs to the pod alone is named after it and replaced when a
 * dead attempt left it.
 */
#include "bridge.h"
#include "hostns.h"
#include "net/rtnl.h"

#include "base/fd.h"

#include <fcntl.h>

#define BRIDGE_ADDRESSES_MAX 64

void bridge_mac(const struct pod_address *addresses, size_t n, uint8_t ret_mac[6]) {
	static const uint8_t prefix[2] = { 0x0a, 0x58 };
	memcpy(ret_mac, prefix, sizeof(prefix));
	memset(ret_mac + 2, 0, 4);
	for (size_t i = 0; n > 0 && i < addresses[0].address.size; i++)
		ret_mac[2 + i % 4] ^= addresses[0].address.bytes[i];
}

static int bridge_get(const Bulkhead__NativeBridge *config, struct netlink *nl, struct rtnl_link *ret_bridge,
		      struct fault *fault) {
	int r = rtnl_link_get(nl, config->bridge, ret_bridge);
	if (r == -ENODEV) {
		r = rtnl_bridge_add(nl, config->bridge, config->mtu, config->promiscuous);
		if (r < 0 && r != -EEXIST)
			return fault_errno(fault, r, "create bridge \"%s\"", config->bridge);
		r = rtnl_link_get(nl, config->bridge, ret_bridge);
	}
	if (r < 0)
		return fault_errno(fault, r, "look up bridge \"%s\"", config->bridge);
	if (strcmp(ret_bridge->kind, "bridge") != 0)
		return fault_set(
		    fault, FAULT_FAILED_PRECONDITION,
		    "link \"%s\" exists and is no bridge; rename it, or the bridge in the network's configuration",
		    config->bridge);
	unsigned flags = IFF_UP | (config->promiscuous ? IFF_PROMISC : 0);
	if ((ret_bridge->flags & flags) == flags)
		return 0;
	r = rtnl_link_set_flags(nl, ret_bridge->index, flags);
	return r < 0 ? fault_errno(fault, r, "set up bridge \"%s\"", config->bridge) : 0;
}

/* Would both be on the bridge at the same time and mean different things? IPv6
 * may have several subnets, IPv4 one address. */
static bool conflicts(const struct address *have, const struct address *want) {
	if (have->size == 4)
		return true;
	static const uint8_t link_local[2] = { 0xfe, 0x80 };
	if (have->bytes[0] == link_local[0] && (have->bytes[1] & 0xc0) == link_local[1])
		return false;
	struct address a = address_network(have), b = address_network(want);
	return address_within(&a, &b) || address_within(&b, &a);
}

/* The kernel forwards IPv6 to a link only once the link's own fe80:: address is
 * through duplicate detection, two seconds after the first pod. The same
 * address, put there by us, counts at once. */
static void put_link_local(struct nl_batch *b, const struct rtnl_link *bridge) {
	const uint8_t *m = bridge->mac;
	struct address a = { .size = 16, .prefix = 64, .bytes = { 0xfe, 0x80 } };
	const uint8_t eui64[8] = { m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5] };
	memcpy(a.bytes + 8, eui64, sizeof(eui64));
	rtnl_put_address(b, bridge->index, &a);
}

/* The bridge has the gateway's address, and no other in its place. */
static int gateway_ensure(const Bulkhead__NativeBridge *config, const struct rtnl_link *bridge,
			  const struct pod_address *pod, struct netlink *nl, struct fault *fault) {
	struct address have[BRIDGE_ADDRESSES_MAX], want = pod->gateway;
	struct nl_batch b;
	char text[ADDRESS_TEXT], other[ADDRESS_TEXT];
	size_t n;
	want.prefix = pod->address.prefix;
	int r = rtnl_addresses(nl, bridge->index, address_family(&want), have, BRIDGE_ADDRESSES_MAX, &n);
	if (r < 0)
		return fault_errno(fault, r, "list addresses of bridge \"%s\"", config->bridge);
	for (size_t i = 0; i < n; i++)
		if (address_equal(&have[i], &want) && have[i].prefix == want.prefix)
			return 0;
	nl_reset(&b);
	for (size_t i = 0; i < n; i++) {
		if (!conflicts(&have[i], &want))
			continue;
		if (!config->force_address)
			return fault_set(fault, FAULT_FAILED_PRECONDITION,
					 "bridge \"%s\" has address %s/%u, not the gateway %s/%u; remove it, or set "
					 "forceAddress in the network's configuration",
					 config->bridge, address_text(&have[i], other), have[i].prefix,
					 address_text(&want, text), want.prefix);
		rtnl_put_address_delete(&b, bridge->index, &have[i]);
	}
	rtnl_put_address(&b, bridge->index, &want);
	if (want.size == 16)
		put_link_local(&b, bridge);
	r = netlink_send(nl, &b, NULL);
	if (r < 0 && r != -EEXIST)
		return fault_errno(fault, r, "give bridge \"%s\" the address %s/%u", config->bridge,
				   address_text(&want, text), want.prefix);
	return 0;
}

/* An address of a family that is switched off can't be set. */
static bool needs_ipv6(const struct bridge_port *port, const struct rtnl_link *link) {
	for (size_t i = 0; link->without_ipv6 && i < port->n_addresses; i++)
		if (port->addresses[i].address.size == 16)
			return true;
	return false;
}

static int gateway_ensure_all(const Bulkhead__NativeBridge *config, const struct rtnl_link *bridge,
			      const struct bridge_port *port, struct network_host *host, struct fault *fault) {
	for (size_t i = 0; i < port->n_addresses; i++) {
		const struct pod_address *a = &port->addresses[i];
		if (!a->gateway.size)
			continue;
		int r = needs_ipv6(port, bridge) ? hostns_ipv6(host, config->bridge, fault) : 0;
		if (r == 0)
			r = gateway_ensure(config, bridge, a, &host->route, fault);
		if (r == 0)
			r = hostns_forward(host, address_family(&a->address), fault);
		if (r < 0)
			return r;
	}
	return 0;
}

static int veth_add(const Bulkhead__NativeBridge *config, unsigned master, const struct bridge_port *port,
		    struct network_host *host, struct fault *fault) {
	uint8_t mac[6];
	struct nl_answer answer;
	CLEANUP_FD int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (netns < 0)
		return fault_errno(fault, errno, "open the pod's network namespace");
	bridge_mac(port->addresses, port->n_addresses, mac);
	struct rtnl_veth veth = {
		.name = port->host_ifname,
		.master = master,
		.peer = port->ifname,
		.mac = mac,
		.peer_netns = netns,
		.mtu = config->mtu,
	};
	int r = rtnl_veth_add(&host->route, &veth, &answer);
	if (r == -EEXIST) {
		/* Of an attempt that died; its name is derived from the pod's id. */
		r = rtnl_link_delete(&host->route, port->host_ifname);
		if (r < 0 && r != -ENODEV)
			return fault_errno(fault, r, "delete the stale link \"%s\"", port->host_ifname);
		r = rtnl_veth_add(&host->route, &veth, &answer);
	}
	return r < 0 ? fault_errno(fault, r, "create the pod's link \"%s\" on bridge \"%s\"%s%s", port->ifname,
				   config->bridge, answer.message[0] ? ": " : "", answer.message)
		     : 0;
}

/* Of the first address of that family; NULL when there is no such address. */
static const struct address *gateway_of(const struct bridge_port *port, uint8_t size) {
	for (size_t i = 0; i < port->n_addresses; i++)
		if (port->addresses[i].address.size == size)
			return &port->addresses[i].gateway;
	return NULL;
}

/* The configured routes, and with isDefaultGateway the default ones that are
 * not among them. */
static int put_routes(struct nl_batch *b, const Bulkhead__NativeBridge *config, unsigned index,
		      const struct bridge_port *port, struct fault *fault) {
	bool have_default[2] = { false, false };
	for (size_t i = 0; i < config->ipam->n_routes; i++) {
		const Bulkhead__NetworkRoute *m = config->ipam->routes[i];
		struct address destination, gateway;
		if (!address_set(&destination, &m->destination, m->prefix, false) ||
		    !address_set(&gateway, &m->gateway, 0, true))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "route %zu of the network is no route", i);
		have_default[destination.size == 16] |= destination.prefix == 0;
		const struct address *own = gateway_of(port, destination.size);
		rtnl_put_route(b, index, &destination, gateway.size || !own ? &gateway : own);
	}
	for (int six = 0; config->is_default_gateway && six < 2; six++) {
		struct address all = { .size = six ? 16 : 4 };
		const struct address *gateway = gateway_of(port, all.size);
		if (gateway && gateway->size && !have_default[six])
			rtnl_put_route(b, index, &all, gateway);
	}
	return 0;
}

static int pod_configure(const Bulkhead__NativeBridge *config, const struct bridge_port *port, struct fault *fault) {
	struct rtnl_link link;
	struct nl_batch b;
	struct nl_answer answer;
	int r = rtnl_link_get(port->pod, port->ifname, &link);
	if (r < 0)
		return fault_errno(fault, r, "look up \"%s\" in the pod", port->ifname);
	if (needs_ipv6(port, &link) && hostns_ipv6(NULL, port->ifname, fault) < 0)
		return fault_prefix(fault, -EACCES, "configure \"%s\" in the pod", port->ifname);
	nl_reset(&b);
	rtnl_put_link_up(&b, link.index);
	for (size_t i = 0; i < port->n_addresses; i++)
		rtnl_put_address(&b, link.index, &port->addresses[i].address);
	r = put_routes(&b, config, link.index, port, fault);
	if (r < 0)
		return r;
	r = netlink_send(port->pod, &b, &answer);
	/* A configured route may be the one that came with the address. */
	if (r == -EEXIST && answer.failed > port->n_addresses)
		r = 0;
	if (r < 0)
		return fault_errno(fault, r, "configure \"%s\" in the pod (%s %u)%s%s", port->ifname,
				   answer.failed == 0			? "up"
				   : answer.failed <= port->n_addresses ? "address"
									: "route",
				   answer.failed, answer.message[0] ? ": " : "", answer.message);
	return 0;
}

/* A pod that asks for its own published port: when bridged packets pass
 * netfilter (br_netfilter), its request is translated on the bridge and must
 * leave by the port that it came in by. */
static bool wants_hairpin(const Bulkhead__NativeBridge *config, const struct bridge_port *port) {
	return config->hairpin || (port->published && !config->promiscuous);
}

/* With the pod's end up both ends have their carrier, but the kernel draws the
 * consequences in a work queue, late on a busy machine: to send over the host's
 * end, to forward to it on the bridge, to begin with IPv6 in the pod. The pod's
 * first packets would be lost. To be asked for a link makes the kernel do it
 * now (since Linux 6.8). */
static int port_settle(const Bulkhead__NativeBridge *config, const struct bridge_port *port, struct network_host *host,
		       struct fault *fault) {
	struct rtnl_link link;
	int r = rtnl_link_get(&host->route, port->host_ifname, &link);
	if (r == 0 && wants_hairpin(config, port))
		r = rtnl_bridge_port_hairpin(&host->route, link.index);
	if (r == 0 && gateway_of(port, 16))
		r = rtnl_link_get(port->pod, port->ifname, &link);
	return r < 0 ? fault_errno(fault, r, "set up \"%s\" on bridge \"%s\"", port->host_ifname, config->bridge) : 0;
}

int bridge_attach(const Bulkhead__NativeBridge *config, const struct bridge_port *port, struct network_host *host,
		  struct fault *fault) {
	struct rtnl_link bridge;
	if (!rtnl_name_valid(config->bridge) || !rtnl_name_valid(port->ifname))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.32s\" or \"%.32s\" can't be the name of a link",
				 config->bridge, port->ifname);
	int r = bridge_get(config, &host->route, &bridge, fault);
	if (r == 0 && config->is_gateway)
		r = gateway_ensure_all(config, &bridge, port, host, fault);
	if (r == 0)
		r = veth_add(config, bridge.index, port, host, fault);
	if (r == 0)
		r = pod_configure(config, port, fault);
	return r < 0 ? r : port_settle(config, port, host, fault);
}
