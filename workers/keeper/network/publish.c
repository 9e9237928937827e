/* Derives a pod's nftables entries; nat.c carries them out. */
#include "publish.h"
#include "conntrack.h"
#include "hostns.h"
#include "nat.h"
#include "net/rtnl.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>

int publish_check(const Bulkhead__NetworkPlan *plan, struct fault *fault) {
	struct address host;
	for (size_t i = 0; i < plan->n_port_mappings; i++) {
		const Bulkhead__PortMapping *m = plan->port_mappings[i];
		if (m->host_port == 0 || m->host_port > 65535 || m->container_port == 0 || m->container_port > 65535 ||
		    (m->protocol != IPPROTO_TCP && m->protocol != IPPROTO_UDP && m->protocol != IPPROTO_SCTP) ||
		    (*m->host_ip && !address_parse(&host, m->host_ip)))
			return fault_set(fault, FAULT_INVALID_ARGUMENT,
					 "port mapping %zu: host \"%.45s\" port %" PRIu32 " to port %" PRIu32
					 ", IP protocol %" PRIu32 ": no such address, port or protocol",
					 i, m->host_ip, m->host_port, m->container_port, m->protocol);
	}
	return 0;
}

static bool has_native(const Bulkhead__NetworkPlan *plan, int which) {
	for (size_t i = 0; i < plan->n_plugins; i++)
		if ((int)plan->plugins[i]->native_case == which)
			return true;
	return false;
}

bool publish_has_ports(const Bulkhead__NetworkPlan *plan) {
	return plan->n_port_mappings > 0 && has_native(plan, BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_PORTMAP);
}

static bool masquerades(const Bulkhead__NetworkPlan *plan) {
	for (size_t i = 0; i < plan->n_plugins; i++)
		if (plan->plugins[i]->native_case == BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE &&
		    plan->plugins[i]->bridge->ip_masq)
			return true;
	return false;
}

/* A mapping is published once per family that its host address and the pod
 * have, to the pod's first address of that family. */
static size_t port_entries(const struct publish *p, const Bulkhead__PortMapping *m, struct nat_entry *ret_entries) {
	static const uint8_t zero[16];
	struct address host = { 0 };
	size_t n = 0;
	if (*m->host_ip && !address_parse(&host, m->host_ip))
		return 0;
	struct address only = host;
	if (memcmp(host.bytes, zero, sizeof(zero)) == 0) /* "", 0.0.0.0, :: */
		only = (struct address){ 0 };
	bool seen[2] = { false, false };
	for (size_t i = 0; i < p->n_addresses; i++) {
		const struct address *a = &p->addresses[i].address;
		if (seen[a->size == 16] || (host.size && host.size != a->size))
			continue;
		seen[a->size == 16] = true;
		ret_entries[n++] = (struct nat_entry){
			.kind = NAT_PORT,
			.address = *a,
			.protocol = (uint8_t)m->protocol,
			.port = (uint16_t)m->container_port,
			.host_port = (uint16_t)m->host_port,
			.host_ip = only,
		};
	}
	return n;
}

/* The caller frees; -ENOMEM. */
static int entries_of(const struct publish *p, struct nat_entry **ret_entries, size_t *ret_n) {
	bool portmap = has_native(p->plan, BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_PORTMAP);
	bool bridge = has_native(p->plan, BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE);
	bool masquerade = masquerades(p->plan), ports = publish_has_ports(p->plan);
	struct nat_entry *entries = calloc(2 * (p->n_addresses + p->plan->n_port_mappings) + 1, sizeof(*entries));
	size_t n = 0;
	if (!entries)
		return -ENOMEM;
	for (size_t i = 0; i < p->n_addresses; i++) {
		const struct address *a = &p->addresses[i].address;
		/* On a bridge where ports may be published every pod needs its way
		 * back from a neighbour's. */
		if (masquerade || ports || (portmap && bridge))
			entries[n++] =
			    (struct nat_entry){ .kind = masquerade ? NAT_MASQUERADE : NAT_POD, .address = *a };
		if (ports && a->size == 4)
			entries[n++] = (struct nat_entry){ .kind = NAT_PUBLISHED, .address = *a };
	}
	for (size_t i = 0; ports && i < p->plan->n_port_mappings; i++)
		n += port_entries(p, p->plan->port_mappings[i], entries + n);
	*ret_entries = entries;
	*ret_n = n;
	return 0;
}

static void warn(struct network_attached *attached, const char *what, int r) {
	if (attached && attached->n_warnings < NETWORK_WARNINGS_MAX)
		snprintf(attached->warnings[attached->n_warnings++], sizeof(attached->warnings[0]), "%s: %s", what,
			 strerrordesc_np(-r) ?: "unknown error");
}

/* Lets connections from 127.0.0.1 out to the pod; without it only they fail,
 * so it is no more than a warning. */
static void allow_loopback(const struct nat_entry *entries, size_t n, struct network_host *host,
			   struct network_attached *attached) {
	struct rtnl_link link;
	unsigned index = 0;
	size_t i = 0;
	while (i < n && entries[i].kind != NAT_PUBLISHED)
		i++;
	if (i == n)
		return;
	int r = rtnl_route_link(&host->route, &entries[i].address, &index);
	if (r == 0)
		r = rtnl_link_get_index(&host->route, index, &link);
	if (r == 0 && !link.route_localnet)
		r = rtnl_route_localnet(&host->route, index);
	if (r < 0)
		warn(attached, "published ports can't be reached by 127.0.0.1: route_localnet", r);
}

/* attached NULL: nobody to warn. */
static void forget_flows(const struct nat_entry *entries, size_t n, struct network_host *host,
			 struct network_attached *attached) {
	int result = 0;
	for (size_t i = 0; i < n; i++) {
		if (entries[i].kind != NAT_PORT || entries[i].protocol != IPPROTO_UDP)
			continue;
		int r =
		    conntrack_forget_udp(&host->netfilter, address_family(&entries[i].address), entries[i].host_port);
		if (r < 0)
			result = r;
	}
	if (result < 0)
		warn(attached, "UDP flows from before may not reach the pod's published ports", result);
}

int publish_attach(const struct publish *p, struct network_host *host, struct network_attached *attached,
		   struct fault *fault) {
	CLEANUP_FREE struct nat_entry *entries = NULL;
	size_t n;
	int r = entries_of(p, &entries, &n);
	if (r < 0)
		return fault_errno(fault, r, "publish ports");
	if (n == 0)
		return 0;
	r = hostns_netfilter(host, fault);
	if (r == 0)
		r = nat_add(&host->netfilter, entries, n, p->comment, fault);
	if (r < 0)
		return r;
	allow_loopback(entries, n, host, attached);
	forget_flows(entries, n, host, attached);
	return 0;
}

int publish_detach(const struct publish *p, struct network_host *host, struct fault *fault) {
	CLEANUP_FREE struct nat_entry *entries = NULL;
	size_t n;
	int r = entries_of(p, &entries, &n);
	if (r < 0)
		return fault_errno(fault, r, "unpublish ports");
	if (n == 0)
		return 0;
	r = hostns_netfilter(host, fault);
	if (r == 0)
		r = nat_remove(&host->netfilter, entries, n, fault);
	if (r == 0)
		forget_flows(entries, n, host, NULL);
	return r;
}
