/*
 * The pod's network devices, continued in the guest: for each that CNI has made
 * in the pod's namespace there is a tap, and what arrives at one leaves by the
 * other (ingress queue, u32 filter that matches everything, mirred). The guest's
 * device has the same MAC, addresses, MTU and routes; those of the namespace's
 * own stay, but no packet gets to them any more. A namespace that outlives the
 * machine, because it is a client's, has its packets back when that has ended.
 */
#include "workers/keeper/vm/vm.h"

#include "base/fd.h"
#include "net/rtnl.h"

#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define INGRESS TC_H_MAKE(TC_H_INGRESS, 0)
#define ADDRESSES_MAX 16
#define ROUTES_MAX 64

/* --- tc --- */

static void put_ingress(struct nl_batch *b, unsigned index) {
	struct tcmsg t = { .tcm_ifindex = (int)index, .tcm_handle = INGRESS, .tcm_parent = TC_H_INGRESS };
	nl_begin(b, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &t, sizeof(t));
	nl_put_text(b, TCA_KIND, "ingress");
}

static void put_redirect(struct nl_batch *b, unsigned from, unsigned to) {
	struct tcmsg t = { .tcm_ifindex = (int)from,
			   .tcm_parent = INGRESS,
			   .tcm_info = TC_H_MAKE(1u << 16, htons(ETH_P_ALL)) };
	/* One key, of none of the first word's bits: everything matches. */
	const struct tc_u32_sel sel = { .flags = TC_U32_TERMINAL, .nkeys = 1 };
	uint8_t match[sizeof(sel) + sizeof(struct tc_u32_key)] = { 0 };
	memcpy(match, &sel, sizeof(sel));
	struct tc_mirred m = { .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to };
	nl_begin(b, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &t, sizeof(t));
	nl_put_text(b, TCA_KIND, "u32");
	size_t options = nl_nest(b, TCA_OPTIONS);
	nl_put(b, TCA_U32_SEL, match, sizeof(match));
	size_t actions = nl_nest(b, TCA_U32_ACT), first = nl_nest(b, 1);
	nl_put_text(b, TCA_ACT_KIND, "mirred");
	size_t parameters = nl_nest(b, TCA_ACT_OPTIONS);
	nl_put(b, TCA_MIRRED_PARMS, &m, sizeof(m));
	nl_nest_end(b, parameters);
	nl_nest_end(b, first);
	nl_nest_end(b, actions);
	nl_nest_end(b, options);
}

/* --- taps --- */

static int tap_make(const char *name, bool headers, unsigned mtu, int *ret_tap, struct fault *fault) {
	struct ifreq r = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | (headers ? IFF_VNET_HDR : 0)) };
	CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (fd < 0)
		return fault_errno(fault, errno, "open /dev/net/tun");
	if (ioctl(fd, TUNSETIFF, &r) < 0)
		return fault_errno(fault, errno, "make the tap \"%s\"", name);
	r.ifr_mtu = (int)mtu;
	if (any < 0 || ioctl(any, SIOCSIFMTU, &r) < 0)
		return fault_errno(fault, errno, "set the MTU of the tap \"%s\"", name);
	*ret_tap = take_fd(&fd);
	return 0;
}

static int redirect(struct netlink *nl, unsigned device, const char *tap, struct fault *fault) {
	struct rtnl_link link;
	struct nl_answer answer = { 0 };
	struct nl_batch b;
	int r = rtnl_link_get(nl, tap, &link);
	/* First: a device whose packets somebody else leads has that already. */
	if (r == 0) {
		nl_reset(&b);
		put_ingress(&b, device);
		r = netlink_send(nl, &b, &answer);
	}
	if (r == 0) {
		nl_reset(&b);
		rtnl_put_link_up(&b, link.index);
		put_ingress(&b, link.index);
		put_redirect(&b, device, link.index);
		put_redirect(&b, link.index, device);
		r = netlink_send(nl, &b, &answer);
	}
	return r < 0 ? fault_errno(fault, r, "lead the pod's packets to the tap \"%s\"%s%s", tap,
				   answer.message[0] ? ": " : "", answer.message)
		     : 0;
}

static void unlead(struct netlink *nl, unsigned index) {
	struct tcmsg t = { .tcm_ifindex = (int)index, .tcm_handle = INGRESS, .tcm_parent = TC_H_INGRESS };
	struct nl_answer ignored;
	struct nl_batch b;
	nl_reset(&b);
	nl_begin(&b, RTM_DELQDISC, 0, &t, sizeof(t));
	(void)netlink_send(nl, &b, &ignored);
}

/* --- what the guest's device has --- */

static int address_add(Types__Interface *i, const struct address *a) {
	char text[ADDRESS_TEXT], *mask;
	Types__IPAddress *ip = malloc(sizeof(*ip));
	if (!ip || asprintf(&mask, "%u", a->prefix) < 0)
		return -ENOMEM;
	types__ipaddress__init(ip);
	ip->family = a->size == 4 ? TYPES__IPFAMILY__v4 : TYPES__IPFAMILY__v6;
	ip->address = strdup(address_text(a, text));
	ip->mask = mask;
	i->ipaddresses[i->n_ipaddresses++] = ip;
	return ip->address ? 0 : -ENOMEM;
}

static bool is_link_local(const struct address *a) {
	return a->size == 16 && a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static int addresses_add(struct netlink *nl, unsigned index, int family, Types__Interface *i) {
	struct address list[ADDRESSES_MAX];
	size_t n = 0;
	int r = rtnl_addresses(nl, index, family, list, ARRAY_SIZE(list), &n);
	/* The guest makes its own link-local one. */
	for (size_t k = 0; r == 0 && k < n; k++)
		if (!is_link_local(&list[k]))
			r = address_add(i, &list[k]);
	return r;
}

static int device_describe(struct netlink *nl, const struct rtnl_link *l, Types__Interface *ret, struct fault *fault) {
	char mac[18];
	types__interface__init(ret);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", l->mac[0], l->mac[1], l->mac[2], l->mac[3],
		 l->mac[4], l->mac[5]);
	ret->device = ret->name = strdup(l->name);
	ret->hwaddr = strdup(mac);
	ret->mtu = l->mtu;
	ret->ipaddresses = calloc(2 * ADDRESSES_MAX, sizeof(*ret->ipaddresses));
	if (!ret->name || !ret->hwaddr || !ret->ipaddresses)
		return fault_errno(fault, ENOMEM, "describe the pod's network");
	int r = addresses_add(nl, l->index, AF_INET, ret);
	if (r == 0)
		r = addresses_add(nl, l->index, AF_INET6, ret);
	return r < 0 ? fault_errno(fault, r, "read the addresses of \"%s\"", l->name) : 0;
}

/* --- routes --- */

struct route_walk {
	struct vm_network *network;
	const struct rtnl_link *links;
	size_t n_links;
};

static char *route_address(const struct nl_attr *a, int family, unsigned prefix, bool with_prefix) {
	char text[ADDRESS_TEXT], *whole = NULL;
	if (!a->data || a->size != (family == AF_INET ? 4u : 16u) || !inet_ntop(family, a->data, text, sizeof(text)))
		return NULL;
	if (!with_prefix)
		return strdup(text);
	return asprintf(&whole, "%s/%u", text, prefix) < 0 ? NULL : whole;
}

static const char *link_name(const struct route_walk *w, uint32_t index) {
	for (size_t i = 0; i < w->n_links; i++)
		if (w->links[i].index == index)
			return w->links[i].name;
	return NULL;
}

/* Those that come with an address are the kernel's, there as here. */
static int on_route(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	const struct route_walk *w = ctx;
	struct vm_network *n = w->network;
	struct nl_attr attrs[RTA_TABLE + 1];
	struct rtmsg header;
	size_t skip = NLMSG_ALIGN(sizeof(header));
	if (type != RTM_NEWROUTE || size < skip)
		return -EPROTO;
	memcpy(&header, body, sizeof(header));
	nl_parse(body + skip, size - skip, attrs, RTA_TABLE);
	const char *device = link_name(w, nl_u32(&attrs[RTA_OIF], 0));
	if (!device || nl_u32(&attrs[RTA_TABLE], header.rtm_table) != RT_TABLE_MAIN || header.rtm_type != RTN_UNICAST ||
	    header.rtm_protocol == RTPROT_KERNEL || header.rtm_protocol == RTPROT_RA || n->n_routes == ROUTES_MAX)
		return 0;
	Types__Route *route = malloc(sizeof(*route));
	if (!route)
		return -ENOMEM;
	types__route__init(route);
	char *dest = route_address(&attrs[RTA_DST], header.rtm_family, header.rtm_dst_len, true);
	char *gateway = route_address(&attrs[RTA_GATEWAY], header.rtm_family, 0, false);
	char *source = route_address(&attrs[RTA_PREFSRC], header.rtm_family, 0, false);
	route->dest = dest ? dest : route->dest;
	route->gateway = gateway ? gateway : route->gateway;
	route->source = source ? source : route->source;
	route->device = strdup(device);
	route->scope = header.rtm_scope;
	route->family = header.rtm_family == AF_INET ? TYPES__IPFAMILY__v4 : TYPES__IPFAMILY__v6;
	n->routes[n->n_routes++] = route;
	return 0;
}

static int routes_read(struct netlink *nl, struct route_walk *w, int family) {
	struct rtmsg header = { .rtm_family = (uint8_t)family };
	size_t before = w->network->n_routes;
	struct nl_batch b;
	int r = -EINTR;
	for (int attempt = 0; r == -EINTR && attempt < 10; attempt++) {
		w->network->n_routes = before;
		nl_reset(&b);
		nl_begin(&b, RTM_GETROUTE, NLM_F_DUMP, &header, sizeof(header));
		r = netlink_query(nl, &b, on_route, w);
	}
	return r;
}

/* --- all of it --- */

struct link_list {
	struct rtnl_link links[VM_LINKS_MAX];
	size_t n;
};

static int on_link(void *ctx, const struct rtnl_link *l) {
	struct link_list *list = ctx;
	if (l->flags & IFF_LOOPBACK || !(l->flags & IFF_UP))
		return 0;
	if (list->n == VM_LINKS_MAX)
		return -E2BIG;
	list->links[list->n++] = *l;
	return 0;
}

static int link_continue(struct netlink *nl, const struct rtnl_link *l, bool headers, struct vm_network *n,
			 struct fault *fault) {
	char tap[IFNAMSIZ];
	snprintf(tap, sizeof(tap), "vmtap%zu", n->n_links);
	int r = device_describe(nl, l, &n->links[n->n_links], fault);
	if (r == 0)
		r = tap_make(tap, headers, l->mtu, &n->taps[n->n_links], fault);
	if (r == 0)
		r = redirect(nl, l->index, tap, fault);
	n->n_links += r == 0;
	return r;
}

int vm_network_make(bool headers, struct vm_network *ret_network, struct fault *fault) {
	struct netlink nl;
	struct link_list list = { .n = 0 };
	struct route_walk walk = { .network = ret_network, .links = list.links };
	*ret_network = (struct vm_network){ .routes = calloc(ROUTES_MAX, sizeof(*ret_network->routes)) };
	int r = ret_network->routes ? netlink_open(NETLINK_ROUTE, &nl) : -ENOMEM;
	if (r == 0)
		r = rtnl_links(&nl, on_link, &list);
	walk.n_links = list.n;
	if (r == 0)
		r = routes_read(&nl, &walk, AF_INET);
	if (r == 0)
		r = routes_read(&nl, &walk, AF_INET6);
	if (r < 0)
		return fault_errno(fault, r, "read the pod's network");
	for (size_t i = 0; r == 0 && i < list.n; i++)
		r = link_continue(&nl, &list.links[i], headers, ret_network, fault);
	for (size_t i = 0; r < 0 && i < ret_network->n_links; i++)
		unlead(&nl, list.links[i].index);
	netlink_close(&nl);
	return r;
}

void vm_network_unmake(void) {
	struct netlink nl;
	struct link_list list = { .n = 0 };
	if (netlink_open(NETLINK_ROUTE, &nl) < 0)
		return;
	(void)rtnl_links(&nl, on_link, &list);
	for (size_t i = 0; i < list.n; i++)
		unlead(&nl, list.links[i].index);
	netlink_close(&nl);
}
