/* The kernel's memory of connections. */
#pragma once

#include "net/netlink.h"

/* Forgets every flow to that UDP port, so that the next datagram meets the
 * translation as it is now: a client that never pauses would otherwise stay
 * where it was before the port was published, or after it no longer is. TCP
 * needs no such thing. */
int conntrack_forget_udp(struct netlink *netfilter, int family, unsigned port);
