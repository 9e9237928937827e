/*
 * UpdateInterface and ListInterfaces. An interface is found by its MAC, or by its
 * name when no other has that MAC, and goes down while it changes, since a name
 * and a MAC are changed so. A name that another one has is exchanged with it.
 */
#include "device.h"
#include "network.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#define ADDRESSES_MAX 64

int mac_parse(const char *text, uint8_t ret_mac[6], struct fault *fault) {
	unsigned m[6];
	int end = 0;
	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &end) != 6 ||
	    text[end] != '\0' || end != 17)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no MAC", text);
	for (size_t i = 0; i < 6; i++)
		ret_mac[i] = (uint8_t)m[i];
	return 0;
}

static char *mac_text(struct arena *a, const uint8_t mac[6]) {
	return arena_printf(a, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

int ip_parse(const Types__IPAddress *ip, struct address *ret_address, struct fault *fault) {
	char text[ADDRESS_TEXT + 16];
	snprintf(text, sizeof(text), "%s%s%s", ip->address, *ip->mask ? "/" : "", ip->mask);
	if (!address_parse(ret_address, text) || strchr(ip->address, '/'))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "address \"%s\" with mask \"%s\" is none: expected an address and bits of a prefix",
				 ip->address, ip->mask);
	return 0;
}

int netlink_route(struct netlink *ret_nl, struct fault *fault) {
	int r = netlink_open(NETLINK_ROUTE, ret_nl);
	return r < 0 ? fault_errno(fault, r, "open rtnetlink") : 0;
}

int link_named(struct netlink *nl, const char *name, struct rtnl_link *ret_link, struct fault *fault) {
	int r = rtnl_name_valid(name) ? rtnl_link_get(nl, name, ret_link) : -ENODEV;
	if (r == -ENODEV)
		return fault_set(fault, FAULT_NOT_FOUND, "there is no interface \"%s\"", name);
	return r < 0 ? fault_errno(fault, r, "look at interface \"%s\"", name) : 0;
}

/* --- finding --- */

struct finding {
	const uint8_t *mac;
	struct rtnl_link *ret_link;
	bool found;
};

static int compare(void *ctx, const struct rtnl_link *link) {
	struct finding *f = ctx;
	if (!f->found && memcmp(link->mac, f->mac, sizeof(link->mac)) == 0) {
		*f->ret_link = *link;
		f->found = true;
	}
	return 0;
}

/* mac NULL: by the name alone. */
static int find(struct netlink *nl, const uint8_t *mac, const char *name, struct rtnl_link *ret_link,
		struct fault *fault) {
	struct finding f = { .mac = mac, .ret_link = ret_link };
	int r = mac ? rtnl_links(nl, compare, &f) : 0;
	if (r < 0)
		return fault_errno(fault, r, "list interfaces");
	return f.found ? 0 : link_named(nl, name, ret_link, fault);
}

/* --- changing --- */

static void put_name(struct nl_batch *b, unsigned index, const char *name) {
	struct ifinfomsg header = { .ifi_index = (int)index };
	nl_begin(b, RTM_NEWLINK, 0, &header, sizeof(header));
	nl_put_text(b, IFLA_IFNAME, name);
}

static void put_flags(struct nl_batch *b, unsigned index, unsigned flags, unsigned mask) {
	struct ifinfomsg header = { .ifi_index = (int)index, .ifi_flags = flags, .ifi_change = mask };
	nl_begin(b, RTM_NEWLINK, 0, &header, sizeof(header));
}

/* The other one gets our name, by way of a third. It may be up: then it is taken
 * down for it and is up again. */
static int exchange_names(struct netlink *nl, const struct rtnl_link *ours, const char *name, struct fault *fault) {
	struct rtnl_link other;
	struct nl_batch b;
	char aside[IFNAMSIZ];
	nl_reset(&b);
	if (rtnl_link_get(nl, name, &other) == 0) {
		snprintf(aside, sizeof(aside), "bh-aside-%u", ours->index % 100000);
		put_flags(&b, other.index, 0, IFF_UP);
		put_name(&b, other.index, aside);
		put_name(&b, ours->index, name);
		put_name(&b, other.index, ours->name);
		put_flags(&b, other.index, other.flags & IFF_UP, IFF_UP);
	} else {
		put_name(&b, ours->index, name);
	}
	int r = netlink_send(nl, &b, NULL);
	return r < 0 ? fault_errno(fault, r, "rename interface \"%s\" to \"%s\"", ours->name, name) : 0;
}

static int addresses_drop(struct netlink *nl, unsigned index, int family, struct nl_batch *b) {
	struct address addresses[ADDRESSES_MAX];
	size_t n;
	int r = rtnl_addresses(nl, index, family, addresses, ADDRESSES_MAX, &n);
	for (size_t i = 0; r == 0 && i < n; i++)
		rtnl_put_address_delete(b, index, &addresses[i]);
	return r;
}

/* An interface that is down has no IPv6 addresses but those that it just got,
 * nor can it have any without IPv6. */
static int addresses_replace(struct netlink *nl, const struct rtnl_link *link, const Types__Interface *i,
			     struct fault *fault) {
	struct nl_batch b;
	struct nl_answer answer;
	nl_reset(&b);
	int r = addresses_drop(nl, link->index, AF_INET, &b);
	if (r == 0 && !link->without_ipv6)
		r = addresses_drop(nl, link->index, AF_INET6, &b);
	if (r == 0 && b.n_messages > 0)
		r = netlink_send(nl, &b, NULL);
	if (r < 0)
		return fault_errno(fault, r, "remove its old addresses");
	nl_reset(&b);
	for (size_t n = 0; n < i->n_ipaddresses; n++) {
		struct address a;
		r = ip_parse(i->ipaddresses[n], &a, fault);
		if (r < 0)
			return r;
		if (a.size == 4 || !link->without_ipv6)
			rtnl_put_address(&b, link->index, &a);
	}
	r = b.n_messages > 0 ? netlink_send(nl, &b, &answer) : 0;
	if (r < 0)
		return fault_errno(fault, r, "give it address %u of %zu%s%s", answer.failed + 1, i->n_ipaddresses,
				   *answer.message ? ": " : "", answer.message);
	return 0;
}

static int attributes_set(struct netlink *nl, const struct rtnl_link *link, const Types__Interface *i,
			  const uint8_t *mac, struct fault *fault) {
	struct nl_batch b;
	struct nl_answer answer;
	unsigned mask = IFF_UP | IFF_NOARP;
	struct ifinfomsg header = { .ifi_index = (int)link->index, .ifi_change = mask };
	header.ifi_flags = IFF_UP | (i->raw_flags & IFF_NOARP);
	nl_reset(&b);
	nl_begin(&b, RTM_NEWLINK, 0, &header, sizeof(header));
	if (mac && memcmp(mac, link->mac, sizeof(link->mac)) != 0)
		nl_put(&b, IFLA_ADDRESS, mac, sizeof(link->mac));
	if (i->mtu)
		nl_put_u32(&b, IFLA_MTU, (uint32_t)i->mtu);
	int r = netlink_send(nl, &b, &answer);
	return r < 0 ? fault_errno(fault, r, "set its MAC, MTU %llu and flags%s%s", (unsigned long long)i->mtu,
				   *answer.message ? ": " : "", answer.message)
		     : 0;
}

static int change(struct netlink *nl, const Types__Interface *i, const uint8_t *mac, struct fault *fault) {
	struct rtnl_link link;
	int r = find(nl, mac, i->name, &link, fault);
	if (r < 0)
		return r;
	struct nl_batch b;
	nl_reset(&b);
	put_flags(&b, link.index, 0, IFF_UP);
	r = netlink_send(nl, &b, NULL);
	if (r < 0)
		return fault_errno(fault, r, "take interface \"%s\" down", link.name);
	r = addresses_replace(nl, &link, i, fault);
	if (r == 0 && *i->name && strcmp(i->name, link.name) != 0)
		r = exchange_names(nl, &link, i->name, fault);
	return r < 0 ? r : attributes_set(nl, &link, i, mac, fault);
}

static int check(const Types__Interface *i, uint8_t mac[6], struct fault *fault) {
	struct address a;
	if (*i->name && !rtnl_name_valid(i->name))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" can't name an interface", i->name);
	if (!*i->name && !*i->hwaddr)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "it has neither a name nor a MAC");
	if (i->mtu > UINT32_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "its MTU is too large");
	int r = *i->hwaddr ? mac_parse(i->hwaddr, mac, fault) : 0;
	for (size_t n = 0; r == 0 && n < i->n_ipaddresses; n++)
		r = ip_parse(i->ipaddresses[n], &a, fault);
	return r;
}

int guest_interface_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Types__Interface *i = ((const Grpc__UpdateInterfaceRequest *)request)->interface;
	CLEANUP(netlink_close) struct netlink nl = NETLINK_NONE;
	uint8_t mac[6];
	if (!i)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request has no interface");
	int r = check(i, mac, fault);
	if (r == 0 && *i->devicepath)
		r = device_network(w, i->devicepath, fault);
	if (r == 0)
		r = netlink_route(&nl, fault);
	if (r == 0)
		r = change(&nl, i, *i->hwaddr ? mac : NULL, fault);
	if (r < 0)
		return fault_prefix(fault, r, "interface \"%s\" %s", i->name, i->hwaddr);
	w->reply = (ProtobufCMessage *)&i->base;
	return 0;
}

/* --- listing --- */

int list_room(void ***list, size_t n, size_t *room, struct arena *a) {
	if (n < *room)
		return 0;
	size_t more = *room ? 2 * *room : 16;
	void **new = arena_alloc(a, more * sizeof(*new));
	if (!new)
		return -ENOMEM;
	if (n > 0)
		memcpy(new, *list, n * sizeof(*new));
	*list = new;
	*room = more;
	return 0;
}

struct listing {
	struct work *work;
	struct netlink *nl; /* another one: the first is busy */
	Types__Interface **list;
	size_t n, room;
};

int ip_fill(struct arena *arena, const struct address *a, Types__IPAddress *ret_ip) {
	char text[ADDRESS_TEXT];
	ret_ip->family = a->size == 4 ? TYPES__IPFAMILY__v4 : TYPES__IPFAMILY__v6;
	ret_ip->address = arena_strdup(arena, address_text(a, text));
	ret_ip->mask = arena_printf(arena, "%u", a->prefix);
	return ret_ip->address && ret_ip->mask ? 0 : -ENOMEM;
}

static int addresses_list(struct listing *l, unsigned index, Types__Interface *i) {
	struct address addresses[2 * ADDRESSES_MAX];
	size_t n4 = 0, n6 = 0;
	int r = rtnl_addresses(l->nl, index, AF_INET, addresses, ADDRESSES_MAX, &n4);
	if (r == 0)
		r = rtnl_addresses(l->nl, index, AF_INET6, addresses + n4, ADDRESSES_MAX, &n6);
	i->ipaddresses = r < 0 ? NULL : arena_zalloc(&l->work->arena, (n4 + n6 + 1) * sizeof(*i->ipaddresses));
	if (!i->ipaddresses)
		return r < 0 ? r : -ENOMEM;
	for (size_t n = 0; n < n4 + n6; n++) {
		Types__IPAddress *ip = ARENA_NEW(&l->work->arena, Types__IPAddress, TYPES__IPADDRESS__INIT);
		if (!ip || ip_fill(&l->work->arena, &addresses[n], ip) < 0)
			return -ENOMEM;
		i->ipaddresses[i->n_ipaddresses++] = ip;
	}
	return 0;
}

static int list_one(void *ctx, const struct rtnl_link *link) {
	struct listing *l = ctx;
	struct arena *a = &l->work->arena;
	Types__Interface *i = ARENA_NEW(a, Types__Interface, TYPES__INTERFACE__INIT);
	if (!i || list_room((void ***)&l->list, l->n, &l->room, a) < 0)
		return -ENOMEM;
	i->name = i->device = arena_strdup(a, link->name);
	i->hwaddr = mac_text(a, link->mac);
	i->type = arena_strdup(a, link->kind);
	i->mtu = link->mtu;
	i->raw_flags = link->flags & IFF_NOARP;
	if (!i->name || !i->hwaddr || !i->type)
		return -ENOMEM;
	l->list[l->n++] = i;
	return addresses_list(l, link->index, i);
}

int guest_interfaces_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	CLEANUP(netlink_close) struct netlink links = NETLINK_NONE, addresses = NETLINK_NONE;
	Grpc__Interfaces *reply = ARENA_NEW(&w->arena, Grpc__Interfaces, GRPC__INTERFACES__INIT);
	struct listing l = { .work = w, .nl = &addresses };
	if (!reply)
		return no_memory(fault);
	int r = netlink_route(&links, fault);
	if (r == 0)
		r = netlink_route(&addresses, fault);
	if (r < 0)
		return r;
	r = rtnl_links(&links, list_one, &l);
	if (r < 0)
		return fault_errno(fault, r, "list interfaces");
	reply->interfaces = l.list;
	reply->n_interfaces = l.n;
	w->reply = &reply->base;
	return 0;
}
