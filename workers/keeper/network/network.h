/*
 * A pod's network: attaches the network namespace that the caller lives in to
 * what a NetworkPlan says, and takes it back. The plugins loopback, bridge with
 * host-local, and portmap are done here by netlink and nftables, any other type
 * is executed. Everything blocks; nothing here is known to a loop.
 *
 * What is taken from the host (addresses, the veth, nftables elements, whatever
 * a plugin takes) stands in <run_dir>/network before it is taken. So a detach
 * works after a crash at any moment, from any process, also when the pod's
 * namespace is gone.
 *
 *     network_host_open(&host, fault);     in the host's namespace
 *     unshare(CLONE_NEWNET);
 *     network_attach(plan, &pod, &host, &attached, fault);
 *     ... the pod lives; then, with no process left in it ...
 *     network_detach(&pod, &host, true, fault);
 *     network_host_close(&host);
 *
 * The veth isn't deleted by a detach from inside (that takes 10 ms and stalls
 * every other pod): its addresses are, and it goes with the namespace when the
 * caller does.
 */
#pragma once

#include "base/fault.h"
#include "internal/keeper.pb-c.h"
#include "net/netlink.h"

#include <stdbool.h>

/* Descriptors of the host's network namespace. -1 is none. */
struct network_host {
	int netns;
	struct netlink route;	  /* rtnetlink */
	struct netlink netfilter; /* nfnetlink; opened when first needed */
};
#define NETWORK_HOST_NONE \
	{ .netns = -1, .route = NETLINK_NONE, .netfilter = NETLINK_NONE }

/* Call it while still in the host's namespace. */
int network_host_open(struct network_host *ret_host, struct fault *fault);
void network_host_close(struct network_host *host);

struct network_pod {
	const char *id;		/* of the sandbox */
	const char *run_dir;	/* the pod's own folder; holds the record */
	const char *netns_path; /* for executed plugins; NULL: /proc/<caller>/ns/net */
};

#define NETWORK_IPS_MAX 16
#define NETWORK_WARNINGS_MAX 4

struct network_attached {
	char ips[NETWORK_IPS_MAX][46]; /* primary first */
	size_t n_ips;
	char warnings[NETWORK_WARNINGS_MAX][256];
	size_t n_warnings;
};

/* The caller's own network namespace is the pod's. A failed attach has taken
 * everything back, or left the record for network_detach. A record that is
 * there already is detached first. plan NULL (host network with a namespace of
 * its own) only brings up the loopback device. */
int network_attach(const Bulkhead__NetworkPlan *plan, const struct network_pod *pod, struct network_host *host,
		   struct network_attached *ret_attached, struct fault *fault);

/* Idempotent; no record is success. in_pod: the caller's own network namespace
 * is the pod's; otherwise the pod's is taken for gone (and its veth, should
 * one still be there, is deleted). On failure the record stays: call again. */
int network_detach(const struct network_pod *pod, struct network_host *host, bool in_pod, struct fault *fault);
