/*
 * Which nftables entries a pod has, by its plan and its addresses: the same
 * answer for attach and detach, so nothing but those two must be remembered.
 */
#pragma once

#include "internal/keeper.pb-c.h"
#include "net/address.h"
#include "network.h"

/* Ports of the plan that can't be published are refused here, before anything
 * is taken. */
int publish_check(const Bulkhead__NetworkPlan *plan, struct fault *fault);

/* Will there be published ports? */
bool publish_has_ports(const Bulkhead__NetworkPlan *plan);

struct publish {
	const Bulkhead__NetworkPlan *plan;
	const struct pod_address *addresses;
	size_t n_addresses;
	const char *comment; /* what `nft list` shows beside the entries */
};

/* Nothing to publish or to masquerade is success. */
int publish_attach(const struct publish *p, struct network_host *host, struct network_attached *attached,
		   struct fault *fault);
int publish_detach(const struct publish *p, struct network_host *host, struct fault *fault);
