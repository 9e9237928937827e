/*
 * Published ports and masquerading: one nftables table in the host's network
 * namespace, whose rules are made once and whose sets change per pod.
 *
 *     table inet bulkhead {
 *       map hostport4  { type inet_proto . inet_service : ipv4_addr . inet_service }
 *       map hostip4    { type ipv4_addr . inet_proto . inet_service : ... }
 *       map pods4      { type ipv4_addr : verdict }
 *       set published4 { type ipv4_addr }       ... and, but for this one, the same for 6
 *       chain prerouting, output { fib daddr type local jump hostports }
 *       chain hostports   { dnat ip to ... map @hostip4; dnat ip to ... map @hostport4 }
 *       chain postrouting { saddr 127.0.0.0/8, daddr @published4, ct status dnat: masquerade
 *                           ip saddr vmap @pods4 }
 *       chain net-10.88.0.0/16  { daddr 10.88.0.0/16, ct status dnat: masquerade }
 *       chain masq-10.88.0.0/16 { the same; daddr 10.88.0.0/16: return;
 *                                 daddr 224.0.0.0/4: return; masquerade }
 *     }
 *
 * A pod's address in pods4 leads to its subnet's chain. The first rule there is
 * for a pod that reaches a neighbour (or itself) by a published port: without
 * it the answer would go home past the translation.
 *
 * The table, and the chains of subnets, stay like the bridge does; a pod's
 * elements go with it. Other tables are not touched.
 */
#pragma once

#include "net/address.h"
#include "base/fault.h"
#include "net/netlink.h"

#include <stddef.h>

enum nat_kind {
	NAT_POD,	/* connections that come from address */
	NAT_MASQUERADE, /* the same, masqueraded unless they stay in the subnet */
	NAT_PUBLISHED,	/* an IPv4 address that has published ports */
	NAT_PORT,	/* host_ip:host_port/protocol goes to address:port */
};

struct nat_entry {
	enum nat_kind kind;
	struct address address; /* of the pod, with the subnet's prefix */
	uint8_t protocol;	/* NAT_PORT: IPPROTO_* */
	uint16_t port, host_port;
	struct address host_ip; /* none: every local address */
};

/* All or, up to 64 entries, nothing. What is there already with the same value
 * is success; a host port that leads elsewhere is ALREADY_EXISTS. */
int nat_add(struct netlink *nl, const struct nat_entry *entries, size_t n, const char *comment, struct fault *fault);
/* Only what is there and leads to these addresses. */
int nat_remove(struct netlink *nl, const struct nat_entry *entries, size_t n, struct fault *fault);
