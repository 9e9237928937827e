/* Sysctls of the host's network namespace and of the caller's own. */
#pragma once

#include "network.h"

/* Forwarding of that family is on afterwards. */
int hostns_forward(struct network_host *host, int family, struct fault *fault);
/* Switches IPv6 on for one link: in the host's namespace, or with host NULL in
 * the caller's own. */
int hostns_ipv6(struct network_host *host, const char *link, struct fault *fault);
/* An open socket to nf_tables in host->netfilter afterwards. */
int hostns_netfilter(struct network_host *host, struct fault *fault);
