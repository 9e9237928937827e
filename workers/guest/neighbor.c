/* AddARPNeighbors: IPv4's and IPv6's neighbours; one that is there is replaced. */
#include "network.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

static int neighbor_set(struct netlink *nl, const Types__ARPNeighbor *n, struct fault *fault) {
	struct address a;
	struct rtnl_link link;
	struct nl_batch b;
	uint8_t mac[6];
	if (!n->toipaddress)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "it has no address");
	int r = address_parse(&a, n->toipaddress->address)
		    ? 0
		    : fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no address", n->toipaddress->address);
	if (r == 0 && *n->lladdr)
		r = mac_parse(n->lladdr, mac, fault);
	if (r == 0)
		r = link_named(nl, n->device, &link, fault);
	if (r < 0)
		return r;
	struct ndmsg header = {
		.ndm_family = (uint8_t)address_family(&a),
		.ndm_ifindex = (int)link.index,
		.ndm_state = n->state ? (uint16_t)n->state : NUD_PERMANENT,
		.ndm_flags = (uint8_t)n->flags,
	};
	nl_reset(&b);
	nl_begin(&b, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	nl_put(&b, NDA_DST, a.bytes, a.size);
	if (*n->lladdr)
		nl_put(&b, NDA_LLADDR, mac, sizeof(mac));
	r = netlink_send(nl, &b, NULL);
	return r < 0 ? fault_errno(fault, r, "set it") : 0;
}

int guest_neighbors_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__ARPNeighbors *q = ((const Grpc__AddARPNeighborsRequest *)request)->neighbors;
	CLEANUP(netlink_close) struct netlink nl = NETLINK_NONE;
	if (!q)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request has no neighbours");
	int r = netlink_route(&nl, fault);
	for (size_t i = 0; r == 0 && i < q->n_arpneighbors; i++) {
		const Types__ARPNeighbor *n = q->arpneighbors[i];
		r = neighbor_set(&nl, n, fault);
		if (r < 0)
			fault_prefix(fault, r, "neighbour \"%s\" on \"%s\"",
				     n->toipaddress ? n->toipaddress->address : "", n->device);
	}
	return r;
}
