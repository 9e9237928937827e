/* rtnetlink messages for links, addresses and routes. Each function is one
 * system call; what it couldn't do left nothing behind. */
#include "net/rtnl.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <sys/random.h>

bool rtnl_name_valid(const char *name) {
	size_t n = strlen(name);
	if (n == 0 || n >= IFNAMSIZ || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	for (; *name; name++)
		if (*name == '/' || *name == ':' || *name == '%' || *name <= ' ' || *name == 0x7f)
			return false;
	return true;
}

/* One of the kernel's settings of a family for the link, in an array that grows
 * with the kernel's age; 0 when it isn't there. */
static uint32_t setting_of(const struct nl_attr *af_spec, unsigned family, uint16_t array, size_t index) {
	struct nl_attr spec[AF_INET6 + 1], conf[IFLA_INET6_MAX + 1];
	uint32_t value = 0;
	if (!af_spec->data)
		return 0;
	nl_parse(af_spec->data, af_spec->size, spec, AF_INET6);
	if (!spec[family].data)
		return 0;
	nl_parse(spec[family].data, spec[family].size, conf, IFLA_INET6_MAX);
	if (!conf[array].data || conf[array].size < (index + 1) * sizeof(value))
		return 0;
	memcpy(&value, conf[array].data + index * sizeof(value), sizeof(value));
	return value;
}

static int on_link(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	struct rtnl_link *link = ctx;
	struct ifinfomsg header;
	if (type != RTM_NEWLINK || size < sizeof(header))
		return -EPROTO;
	memcpy(&header, body, sizeof(header));
	*link = (struct rtnl_link){ .index = (unsigned)header.ifi_index, .flags = header.ifi_flags };
	struct nl_attr attrs[IFLA_AF_SPEC + 1], info[IFLA_INFO_KIND + 1];
	nl_parse(body + NLMSG_ALIGN(sizeof(header)), size - sizeof(header), attrs, IFLA_AF_SPEC);
	link->mtu = nl_u32(&attrs[IFLA_MTU], 0);
	const char *name = nl_text(&attrs[IFLA_IFNAME]);
	if (name)
		memcpy(link->name, name, strnlen(name, sizeof(link->name) - 1));
	if (attrs[IFLA_ADDRESS].data && attrs[IFLA_ADDRESS].size == sizeof(link->mac))
		memcpy(link->mac, attrs[IFLA_ADDRESS].data, sizeof(link->mac));
	const struct nl_attr *af = &attrs[IFLA_AF_SPEC];
	link->route_localnet = setting_of(af, AF_INET, IFLA_INET_CONF, IPV4_DEVCONF_ROUTE_LOCALNET - 1);
	link->without_ipv6 = setting_of(af, AF_INET6, IFLA_INET6_CONF, DEVCONF_DISABLE_IPV6);
	if (attrs[IFLA_LINKINFO].data) {
		nl_parse(attrs[IFLA_LINKINFO].data, attrs[IFLA_LINKINFO].size, info, IFLA_INFO_KIND);
		const char *kind = nl_text(&info[IFLA_INFO_KIND]);
		if (kind)
			memcpy(link->kind, kind, strnlen(kind, sizeof(link->kind) - 1));
	}
	return 0;
}

static int link_get(struct netlink *nl, unsigned index, const char *name, struct rtnl_link *ret_link) {
	struct nl_batch b;
	struct ifinfomsg header = { .ifi_index = (int)index };
	struct rtnl_link link = { 0 };
	nl_reset(&b);
	nl_begin(&b, RTM_GETLINK, 0, &header, sizeof(header));
	if (name)
		nl_put_text(&b, IFLA_IFNAME, name);
	nl_put_u32(&b, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	int r = netlink_query(nl, &b, on_link, &link);
	if (r == 0)
		*ret_link = link;
	return r;
}

int rtnl_link_get(struct netlink *nl, const char *name, struct rtnl_link *ret_link) {
	return link_get(nl, 0, name, ret_link);
}

int rtnl_link_get_index(struct netlink *nl, unsigned index, struct rtnl_link *ret_link) {
	return link_get(nl, index, NULL, ret_link);
}

struct link_walk {
	int (*fn)(void *ctx, const struct rtnl_link *link);
	void *ctx;
};

static int on_link_of_all(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	const struct link_walk *walk = ctx;
	struct rtnl_link link;
	int r = on_link(&link, type, body, size);
	return r < 0 ? r : walk->fn(walk->ctx, &link);
}

int rtnl_links(struct netlink *nl, int (*fn)(void *ctx, const struct rtnl_link *link), void *ctx) {
	struct nl_batch b;
	struct ifinfomsg header = { 0 };
	struct link_walk walk = { .fn = fn, .ctx = ctx };
	nl_reset(&b);
	nl_begin(&b, RTM_GETLINK, NLM_F_DUMP, &header, sizeof(header));
	nl_put_u32(&b, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	return netlink_query(nl, &b, on_link_of_all, &walk);
}

int rtnl_link_delete(struct netlink *nl, const char *name) {
	struct nl_batch b;
	struct ifinfomsg header = { 0 };
	nl_reset(&b);
	nl_begin(&b, RTM_DELLINK, 0, &header, sizeof(header));
	nl_put_text(&b, IFLA_IFNAME, name);
	return netlink_send(nl, &b, NULL);
}

int rtnl_bridge_add(struct netlink *nl, const char *name, unsigned mtu, bool promiscuous) {
	struct nl_batch b;
	unsigned flags = IFF_UP | (promiscuous ? IFF_PROMISC : 0);
	struct ifinfomsg header = { .ifi_flags = flags, .ifi_change = flags };
	/* A bridge without an address of its own takes its lowest port's, and so
	 * changes it with every pod. */
	uint8_t mac[6];
	if (getrandom(mac, sizeof(mac), 0) != sizeof(mac))
		return -EIO;
	mac[0] = (uint8_t)((mac[0] & 0xfc) | 0x02); /* locally administered, unicast */
	nl_reset(&b);
	nl_begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	nl_put_text(&b, IFLA_IFNAME, name);
	nl_put(&b, IFLA_ADDRESS, mac, sizeof(mac));
	if (mtu)
		nl_put_u32(&b, IFLA_MTU, mtu);
	size_t info = nl_nest(&b, IFLA_LINKINFO);
	nl_put_text(&b, IFLA_INFO_KIND, "bridge");
	nl_nest_end(&b, info);
	return netlink_send(nl, &b, NULL);
}

int rtnl_bridge_port_hairpin(struct netlink *nl, unsigned index) {
	struct nl_batch b;
	struct ifinfomsg header = { .ifi_family = AF_BRIDGE, .ifi_index = (int)index };
	nl_reset(&b);
	nl_begin(&b, RTM_SETLINK, 0, &header, sizeof(header));
	size_t port = nl_nest(&b, IFLA_PROTINFO);
	nl_put_u8(&b, IFLA_BRPORT_MODE, 1);
	nl_nest_end(&b, port);
	return netlink_send(nl, &b, NULL);
}

int rtnl_link_set_flags(struct netlink *nl, unsigned index, unsigned flags) {
	struct nl_batch b;
	struct ifinfomsg header = { .ifi_index = (int)index, .ifi_flags = flags, .ifi_change = flags };
	nl_reset(&b);
	nl_begin(&b, RTM_NEWLINK, 0, &header, sizeof(header));
	return netlink_send(nl, &b, NULL);
}

int rtnl_veth_add(struct netlink *nl, const struct rtnl_veth *veth, struct nl_answer *ret_answer) {
	struct nl_batch b;
	struct ifinfomsg header = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP }, peer = { 0 };
	nl_reset(&b);
	nl_begin(&b, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	nl_put_text(&b, IFLA_IFNAME, veth->name);
	if (veth->master)
		nl_put_u32(&b, IFLA_MASTER, veth->master);
	if (veth->mtu)
		nl_put_u32(&b, IFLA_MTU, veth->mtu);
	size_t info = nl_nest(&b, IFLA_LINKINFO);
	nl_put_text(&b, IFLA_INFO_KIND, "veth");
	size_t data = nl_nest(&b, IFLA_INFO_DATA);
	size_t other = nl_nest_with(&b, VETH_INFO_PEER, &peer, sizeof(peer));
	nl_put_text(&b, IFLA_IFNAME, veth->peer);
	nl_put(&b, IFLA_ADDRESS, veth->mac, 6);
	if (veth->mtu)
		nl_put_u32(&b, IFLA_MTU, veth->mtu);
	nl_put_u32(&b, IFLA_NET_NS_FD, (uint32_t)veth->peer_netns);
	nl_nest_end(&b, other);
	nl_nest_end(&b, data);
	nl_nest_end(&b, info);
	return netlink_send(nl, &b, ret_answer);
}

struct address_list {
	unsigned index;
	struct address *addresses;
	size_t n, room;
};

static int on_address(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	struct address_list *list = ctx;
	struct ifaddrmsg header;
	if (type != RTM_NEWADDR || size < sizeof(header))
		return -EPROTO;
	memcpy(&header, body, sizeof(header));
	if (header.ifa_index != list->index)
		return 0;
	struct nl_attr attrs[IFA_LOCAL + 1];
	nl_parse(body + NLMSG_ALIGN(sizeof(header)), size - sizeof(header), attrs, IFA_LOCAL);
	const struct nl_attr *a = attrs[IFA_LOCAL].data ? &attrs[IFA_LOCAL] : &attrs[IFA_ADDRESS];
	ProtobufCBinaryData bytes = { a->size, (uint8_t *)a->data };
	struct address address;
	if (!a->data || !address_set(&address, &bytes, header.ifa_prefixlen, false))
		return -EPROTO;
	if (list->n == list->room)
		return -EOVERFLOW;
	list->addresses[list->n++] = address;
	return 0;
}

int rtnl_addresses(struct netlink *nl, unsigned index, int family, struct address *ret_addresses, size_t room,
		   size_t *ret_n) {
	struct nl_batch b;
	struct ifaddrmsg header = { .ifa_family = (uint8_t)family, .ifa_index = index };
	struct address_list list;
	int r = -EINTR;
	/* Other pods come and go: a list that changed while it was read is read
	 * again. */
	for (int attempt = 0; r == -EINTR && attempt < 10; attempt++) {
		list = (struct address_list){ .index = index, .addresses = ret_addresses, .room = room };
		nl_reset(&b);
		nl_begin(&b, RTM_GETADDR, NLM_F_DUMP, &header, sizeof(header));
		r = netlink_query(nl, &b, on_address, &list);
	}
	if (r == 0)
		*ret_n = list.n;
	return r;
}

static int on_netconf(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	struct nl_attr attrs[NETCONFA_FORWARDING + 1];
	size_t skip = NLMSG_ALIGN(sizeof(struct netconfmsg));
	if (type != RTM_NEWNETCONF || size < skip)
		return -EPROTO;
	nl_parse(body + skip, size - skip, attrs, NETCONFA_FORWARDING);
	*(bool *)ctx = nl_u32(&attrs[NETCONFA_FORWARDING], 0) != 0;
	return 0;
}

int rtnl_forwarding(struct netlink *nl, int family, bool *ret_forwarding) {
	struct nl_batch b;
	struct netconfmsg header = { .ncm_family = (uint8_t)family };
	nl_reset(&b);
	nl_begin(&b, RTM_GETNETCONF, 0, &header, sizeof(header));
	nl_put_u32(&b, NETCONFA_IFINDEX, (uint32_t)NETCONFA_IFINDEX_ALL);
	return netlink_query(nl, &b, on_netconf, ret_forwarding);
}

int rtnl_route_localnet(struct netlink *nl, unsigned index) {
	struct nl_batch b;
	struct ifinfomsg header = { .ifi_index = (int)index };
	nl_reset(&b);
	nl_begin(&b, RTM_NEWLINK, 0, &header, sizeof(header));
	size_t spec = nl_nest(&b, IFLA_AF_SPEC);
	size_t family = nl_nest(&b, AF_INET);
	size_t conf = nl_nest(&b, IFLA_INET_CONF);
	nl_put_u32(&b, IPV4_DEVCONF_ROUTE_LOCALNET, 1);
	nl_nest_end(&b, conf);
	nl_nest_end(&b, family);
	nl_nest_end(&b, spec);
	return netlink_send(nl, &b, NULL);
}

static int on_route(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	struct nl_attr attrs[RTA_OIF + 1];
	size_t skip = NLMSG_ALIGN(sizeof(struct rtmsg));
	if (type != RTM_NEWROUTE || size < skip)
		return -EPROTO;
	nl_parse(body + skip, size - skip, attrs, RTA_OIF);
	*(unsigned *)ctx = nl_u32(&attrs[RTA_OIF], 0);
	return 0;
}

int rtnl_route_link(struct netlink *nl, const struct address *a, unsigned *ret_index) {
	struct nl_batch b;
	struct rtmsg header = { .rtm_family = (uint8_t)address_family(a), .rtm_dst_len = (uint8_t)address_bits(a) };
	nl_reset(&b);
	nl_begin(&b, RTM_GETROUTE, 0, &header, sizeof(header));
	nl_put(&b, RTA_DST, a->bytes, a->size);
	return netlink_query(nl, &b, on_route, ret_index);
}

void rtnl_put_link_up(struct nl_batch *b, unsigned index) {
	struct ifinfomsg header = { .ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	nl_begin(b, RTM_NEWLINK, 0, &header, sizeof(header));
}

static void put_address(struct nl_batch *b, uint16_t type, uint16_t flags, unsigned index, const struct address *a) {
	struct ifaddrmsg header = {
		.ifa_family = (uint8_t)address_family(a),
		.ifa_prefixlen = a->prefix,
		.ifa_flags = a->size == 16 ? IFA_F_NODAD : 0,
		.ifa_index = index,
	};
	nl_begin(b, type, flags, &header, sizeof(header));
	nl_put(b, IFA_LOCAL, a->bytes, a->size);
	nl_put(b, IFA_ADDRESS, a->bytes, a->size);
	if (type == RTM_NEWADDR && a->size == 4 && a->prefix < 31) {
		uint8_t broadcast[4];
		for (unsigned i = 0; i < 4; i++) {
			unsigned bits = a->prefix > i * 8u ? MIN(a->prefix - i * 8u, 8u) : 0;
			broadcast[i] = (uint8_t)(a->bytes[i] | (0xff >> bits));
		}
		nl_put(b, IFA_BROADCAST, broadcast, sizeof(broadcast));
	}
}

void rtnl_put_address(struct nl_batch *b, unsigned index, const struct address *a) {
	put_address(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, a);
}

void rtnl_put_address_delete(struct nl_batch *b, unsigned index, const struct address *a) {
	put_address(b, RTM_DELADDR, 0, index, a);
}

void rtnl_put_route(struct nl_batch *b, unsigned index, const struct address *destination,
		    const struct address *gateway) {
	struct rtmsg header = {
		.rtm_family = (uint8_t)address_family(destination),
		.rtm_dst_len = destination->prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = gateway->size ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	nl_begin(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
	if (destination->prefix)
		nl_put(b, RTA_DST, destination->bytes, destination->size);
	if (gateway->size)
		nl_put(b, RTA_GATEWAY, gateway->bytes, gateway->size);
	nl_put_u32(b, RTA_OIF, index);
}
