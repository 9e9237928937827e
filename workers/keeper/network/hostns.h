/* What must be done from inside the host's network namespace: its sysctls. */
#pragma once

#include "network.h"

/* Forwarding of that family is on afterwards. */
int hostns_forward(struct network_host *host, int family, struct fault *fault);
/* An open socket to nf_tables in host->netfilter afterwards. */
int hostns_netfilter(struct network_host *host, struct fault *fault);
