/*
 * The few operations on links, addresses and routes that a pod needs, in the
 * network namespace of the socket. rtnl_put_* only append to a batch; the
 * others talk to the kernel.
 */
#pragma once

#include "net/address.h"
#include "net/netlink.h"

#include <net/if.h>

struct rtnl_link {
	unsigned index;
	unsigned flags; /* IFF_* */
	unsigned mtu;
	char name[IFNAMSIZ];
	uint8_t mac[6];
	char kind[16];	     /* "bridge", "veth", "" */
	bool route_localnet; /* 127.0.0.0/8 may be routed over it */
	bool without_ipv6;   /* switched off by sysctl */
};

/* A name that the kernel would take: no slash, colon or space, 1 to 15 bytes. */
bool rtnl_name_valid(const char *name);

/* -ENODEV when there is none. */
int rtnl_link_get(struct netlink *nl, const char *name, struct rtnl_link *ret_link);
int rtnl_link_get_index(struct netlink *nl, unsigned index, struct rtnl_link *ret_link);
/* All of them; fn's negative errno is passed up, and fn may not use nl. */
int rtnl_links(struct netlink *nl, int (*fn)(void *ctx, const struct rtnl_link *link), void *ctx);
int rtnl_link_delete(struct netlink *nl, const char *name);
/* Up at once, with a MAC of its own that ports don't change. */
int rtnl_bridge_add(struct netlink *nl, const char *name, unsigned mtu, bool promiscuous);
int rtnl_bridge_port_hairpin(struct netlink *nl, unsigned index);
/* Sets those flags, leaves the others. */
int rtnl_link_set_flags(struct netlink *nl, unsigned index, unsigned flags);

struct rtnl_veth {
	const char *name;   /* here, up, a port of master */
	unsigned master;    /* link index; 0: none */
	const char *peer;   /* there, not up yet: the kernel would refuse it */
	const uint8_t *mac; /* of the peer, 6 bytes */
	int peer_netns;	    /* descriptor */
	unsigned mtu;	    /* 0: the kernel's */
};
int rtnl_veth_add(struct netlink *nl, const struct rtnl_veth *veth, struct nl_answer *ret_answer);

/* The addresses of one family on one link. */
int rtnl_addresses(struct netlink *nl, unsigned index, int family, struct address *ret_addresses, size_t room,
		   size_t *ret_n);
/* *ret_forwarding of all interfaces of the family. */
int rtnl_forwarding(struct netlink *nl, int family, bool *ret_forwarding);

int rtnl_route_localnet(struct netlink *nl, unsigned index);
/* The link that leads to an address. */
int rtnl_route_link(struct netlink *nl, const struct address *a, unsigned *ret_index);

void rtnl_put_link_up(struct nl_batch *b, unsigned index);
/* Usable at once (no duplicate address detection). */
void rtnl_put_address(struct nl_batch *b, unsigned index, const struct address *a);
void rtnl_put_address_delete(struct nl_batch *b, unsigned index, const struct address *a);
/* gateway with size 0: on the link itself. */
void rtnl_put_route(struct nl_batch *b, unsigned index, const struct address *destination,
		    const struct address *gateway);
