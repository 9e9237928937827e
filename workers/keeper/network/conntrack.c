/* One message of ctnetlink: delete all flows that match a part of a tuple,
 * which the kernel picks itself (since Linux 5.8). */
#include "conntrack.h"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

/* Which fields of the tuple count; the kernel's header for programs lacks the
 * names of these bits. */
#define MATCH_PROTOCOL (1U << 3)
#define MATCH_DESTINATION_PORT (1U << 5)

int conntrack_forget_udp(struct netlink *netfilter, int family, unsigned port) {
	struct nl_batch b;
	struct nfgenmsg header = { .nfgen_family = (uint8_t)family, .version = NFNETLINK_V0 };
	nl_reset(&b);
	nl_begin(&b, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, &header, sizeof(header));
	size_t tuple = nl_nest(&b, CTA_TUPLE_ORIG);
	size_t protocol = nl_nest(&b, CTA_TUPLE_PROTO);
	nl_put_u8(&b, CTA_PROTO_NUM, IPPROTO_UDP);
	nl_put_u16(&b, CTA_PROTO_DST_PORT, htons((uint16_t)port));
	nl_nest_end(&b, protocol);
	nl_nest_end(&b, tuple);
	size_t filter = nl_nest(&b, CTA_FILTER);
	nl_put_u32(&b, CTA_FILTER_ORIG_FLAGS, MATCH_PROTOCOL | MATCH_DESTINATION_PORT);
	nl_nest_end(&b, filter);
	return netlink_send(netfilter, &b, NULL);
}
