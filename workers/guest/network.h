/* What interfaces, routes and neighbours share. */
#pragma once

#include "guest.h"
#include "net/rtnl.h"

int mac_parse(const char *text, uint8_t ret_mac[6], struct fault *fault);
/* Address and mask; none: that of one host. */
int ip_parse(const Types__IPAddress *ip, struct address *ret_address, struct fault *fault);
int ip_fill(struct arena *arena, const struct address *a, Types__IPAddress *ret_ip);
int netlink_route(struct netlink *ret_nl, struct fault *fault);
/* NOT_FOUND when there is none of that name. */
int link_named(struct netlink *nl, const char *name, struct rtnl_link *ret_link, struct fault *fault);
/* Room for one more in a list of pointers that grows in the arena. */
int list_room(void ***list, size_t n, size_t *room, struct arena *a);
