/*
 * Owns the order in which a pod's network is attached and detached, and the
 * record that makes both repeatable.
 *
 * Attach: record the plan; per plugin in order: choose addresses, record them,
 * take them, make links; or execute the program and record its result; at last
 * one nftables transaction for all of the pod. Detach: the same backwards, from
 * the record alone; each step looks whether there is something to give back.
 * A step that fails doesn't keep the others from being tried; the first fault
 * is what the caller reads, and the record stays.
 */
#include "network.h"
#include "bridge.h"
#include "hostlocal.h"
#include "plugin.h"
#include "publish.h"
#include "record.h"
#include "result.h"
#include "net/rtnl.h"
#include "sockets.h"

#include "base/clock.h"
#include "base/fd.h"

#include <stdio.h>

#define PLUGIN_TIMEOUT (60 * NS_PER_SEC)
#define LOOPBACK_INDEX 1 /* in every namespace */

/* One pod's network while it is attached or detached. */
struct work {
	const Bulkhead__NetworkPlan *plan;
	const struct network_pod *pod;
	struct network_host *host;
	struct netlink inside; /* rtnetlink in the pod's namespace */
	char host_ifname[IFNAMSIZ];
	char netns[256]; /* "" when it is gone */
	struct pod_address addresses[RECORD_ADDRESSES_MAX];
	size_t n_addresses;
	char *result; /* JSON of the last plugin that was executed, or NULL */
	bool recorded;
	enum { POD_HERE, POD_RETRY, POD_GONE } namespace;
};
#define WORK_NONE \
	{ .inside = NETLINK_NONE }

static void work_deinit(struct work *w) {
	netlink_close(&w->inside);
	free(w->result);
}

/* "veth" and 55 bits of FNV-1a over the pod's id and interface name. */
static void host_ifname_of(const char *id, const char *ifname, char ret_name[IFNAMSIZ]) {
	uint64_t h = UINT64_C(0xcbf29ce484222325);
	const char *parts[] = { id, "/", ifname };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		for (const char *p = parts[i]; *p; p++)
			h = (h ^ (uint8_t)*p) * UINT64_C(0x100000001b3);
	memcpy(ret_name, "veth", 4);
	for (size_t i = 4; i < IFNAMSIZ - 1; i++, h >>= 5)
		ret_name[i] = "abcdefghijklmnopqrstuvwxyz234567"[h & 31];
	ret_name[IFNAMSIZ - 1] = '\0';
}

/* --- the record --- */

/* Writes what w holds now, before it holds it. */
static int work_record(struct work *w, struct fault *fault) {
	Bulkhead__NetworkRecord record = BULKHEAD__NETWORK_RECORD__INIT;
	Bulkhead__NetworkAddress addresses[RECORD_ADDRESSES_MAX];
	Bulkhead__NetworkAddress *list[RECORD_ADDRESSES_MAX];
	for (size_t i = 0; i < w->n_addresses; i++) {
		const struct pod_address *a = &w->addresses[i];
		bulkhead__network_address__init(&addresses[i]);
		addresses[i].address = (ProtobufCBinaryData){ a->address.size, (uint8_t *)a->address.bytes };
		addresses[i].prefix = a->address.prefix;
		addresses[i].gateway = (ProtobufCBinaryData){ a->gateway.size, (uint8_t *)a->gateway.bytes };
		list[i] = &addresses[i];
	}
	record.plan = (Bulkhead__NetworkPlan *)w->plan;
	record.sandbox_id = (char *)w->pod->id;
	record.host_ifname = (char *)w->host_ifname;
	record.addresses = list;
	record.n_addresses = w->n_addresses;
	if (w->result)
		record.result_json = w->result;
	int r = record_write(w->pod->run_dir, &record, fault);
	w->recorded |= r == 0;
	return r;
}

/* --- native plugins --- */

/* Chooses, records, takes: under the store's lock, so that nobody takes the
 * address between. */
static int addresses_take(struct work *w, const Bulkhead__HostLocal *config, struct fault *fault) {
	CLEANUP(hostlocal_close) struct hostlocal store = HOSTLOCAL_NONE;
	int r = hostlocal_open(config->data_dir, w->plan->name, &store, fault);
	if (r == 0)
		r = hostlocal_pick(&store, config, w->addresses, &w->n_addresses, fault);
	if (r == 0)
		r = work_record(w, fault);
	if (r == 0)
		r = hostlocal_reserve(&store, w->pod->id, w->plan->ifname, w->addresses, w->n_addresses, fault);
	return r;
}

static int addresses_release(const struct work *w, const Bulkhead__HostLocal *config, struct fault *fault) {
	struct address addresses[RECORD_ADDRESSES_MAX];
	for (size_t i = 0; i < w->n_addresses; i++)
		addresses[i] = w->addresses[i].address;
	return hostlocal_release(config->data_dir, w->plan->name, w->pod->id, w->plan->ifname, addresses,
				 w->n_addresses, fault);
}

static int native_bridge_add(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	int r = addresses_take(w, p->bridge->ipam, fault);
	if (r < 0)
		return r;
	struct bridge_port port = {
		.host_ifname = w->host_ifname,
		.ifname = w->plan->ifname,
		.addresses = w->addresses,
		.n_addresses = w->n_addresses,
		.published = publish_has_ports(w->plan),
		.pod = &w->inside,
	};
	return bridge_attach(p->bridge, &port, w->host, fault);
}

/* Before an address is given back, no link may have it any more. From inside
 * it's taken off the pod's link, which costs microseconds and leaves the link
 * to die with the namespace. When that isn't to end with us (connections are
 * open, or the caller will use it again), or when it can't be reached, the link
 * itself must go. */
static int link_silence(struct work *w, struct fault *fault) {
	struct rtnl_link link;
	struct nl_batch b;
	bool lingers = w->namespace == POD_HERE && sockets_linger();
	if (lingers)
		sockets_hurry();
	if (lingers || w->namespace != POD_HERE) {
		int r = rtnl_link_delete(&w->host->route, w->host_ifname);
		return r < 0 && r != -ENODEV ? fault_errno(fault, r, "delete link \"%s\"", w->host_ifname) : 0;
	}
	int r = rtnl_link_get(&w->inside, w->plan->ifname, &link);
	if (r == -ENODEV)
		return 0;
	for (size_t i = 0; r == 0 && i < w->n_addresses; i++) {
		nl_reset(&b);
		rtnl_put_address_delete(&b, link.index, &w->addresses[i].address);
		r = netlink_send(&w->inside, &b, NULL);
		if (r == -EADDRNOTAVAIL)
			r = 0;
	}
	return r < 0 ? fault_errno(fault, r, "take the addresses off \"%s\" in the pod", w->plan->ifname) : 0;
}

static int native_bridge_delete(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	int r = link_silence(w, fault);
	return r < 0 ? r : addresses_release(w, p->bridge->ipam, fault);
}

/* --- executed plugins --- */

/* What the native bridge did before p, told as its result. */
static int result_ensure(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	const Bulkhead__NativeBridge *bridge = NULL;
	for (size_t i = 0; i < w->plan->n_plugins && w->plan->plugins[i] != p; i++)
		if (w->plan->plugins[i]->native_case == BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE)
			bridge = w->plan->plugins[i]->bridge;
	if (w->result || !bridge)
		return 0;
	struct cni_made made = {
		.version = w->plan->cni_version,
		.bridge = bridge->bridge,
		.host_ifname = w->host_ifname,
		.ifname = w->plan->ifname,
		.netns = w->netns,
		.addresses = w->addresses,
		.n_addresses = w->n_addresses,
		.ipam = bridge->ipam,
		.default_gateway = bridge->is_default_gateway,
	};
	bridge_mac(w->addresses, w->n_addresses, made.mac);
	w->result = cni_result_compose(&made);
	return w->result
		   ? 0
		   : fault_errno(fault, ENOMEM, "describe bridge \"%s\" to CNI plugin \"%s\"", bridge->bridge, p->type);
}

static int plugin_run(const struct work *w, const Bulkhead__NetworkPlan__Plugin *p, const char *command,
		      const char *previous, char **ret_output, struct fault *fault) {
	CLEANUP_FREE char *config = previous ? cni_config_with_previous(p->config_json, previous)
					     : strdup(p->config_json);
	if (!config)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the configuration of CNI plugin \"%s\" is no JSON object", p->type);
	struct plugin_call call = {
		.command = command,
		.type = p->type,
		.bin_dirs = w->plan->bin_dirs,
		.n_bin_dirs = w->plan->n_bin_dirs,
		.container_id = w->pod->id,
		.netns = w->netns,
		.ifname = w->plan->ifname,
		.args = w->plan->cni_args,
		.config = config,
		.host_netns = w->host->netns,
		.timeout_ns = PLUGIN_TIMEOUT,
	};
	return plugin_execute(&call, ret_output, fault);
}

static int executed_add(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	CLEANUP_FREE char *output = NULL;
	int r = w->recorded ? 0 : work_record(w, fault);
	if (r == 0)
		r = result_ensure(w, p, fault);
	if (r == 0)
		r = plugin_run(w, p, "ADD", w->result, &output, fault);
	if (r < 0)
		return r;
	/* A plugin may answer with nothing and so leave the result as it was. */
	if (output[strspn(output, " \t\r\n")] == '\0')
		return 0;
	r = cni_result_addresses(output, w->plan->ifname, w->addresses, RECORD_ADDRESSES_MAX, &w->n_addresses);
	if (r < 0)
		return fault_set(fault, FAULT_DATA_LOSS, "CNI plugin \"%s\" ADD: its output is no CNI result", p->type);
	free(w->result);
	w->result = take_ptr(output);
	return work_record(w, fault);
}

static int executed_delete(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	CLEANUP_FREE char *output = NULL;
	bool cached = w->result && cni_version_has_cached_result(w->plan->cni_version);
	return plugin_run(w, p, "DEL", cached ? w->result : NULL, &output, fault);
}

/* --- the chain --- */

static int plugin_add(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	switch (p->native_case) {
	case BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_LOOPBACK: /* is up already */
	case BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_PORTMAP:  /* with all of nftables, at the end */
		return 0;
	case BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE:
		return native_bridge_add(w, p, fault);
	default:
		return executed_add(w, p, fault);
	}
}

static int plugin_delete(struct work *w, const Bulkhead__NetworkPlan__Plugin *p, struct fault *fault) {
	switch (p->native_case) {
	case BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_LOOPBACK:
	case BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_PORTMAP:
		return 0;
	case BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE:
		return native_bridge_delete(w, p, fault);
	default:
		return executed_delete(w, p, fault);
	}
}

/* What must hold of a plan before anything is done by it; it was made by
 * another process. */
static int plan_check(const Bulkhead__NetworkPlan *plan, struct fault *fault) {
	int r = plugin_name_check(plan->name, fault);
	if (r < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.64s\" can't be the name of a network", plan->name);
	if (!rtnl_name_valid(plan->ifname))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%.32s\" can't be the name of a link", plan->ifname);
	for (size_t i = 0; i < plan->n_plugins; i++) {
		const Bulkhead__NetworkPlan__Plugin *p = plan->plugins[i];
		if (p->native_case != BULKHEAD__NETWORK_PLAN__PLUGIN__NATIVE_BRIDGE)
			continue;
		if (!p->bridge->ipam || p->bridge->ipam->data_dir[0] != '/' || p->bridge->ipam->n_sets == 0 ||
		    p->bridge->ipam->n_sets > HOSTLOCAL_SETS_MAX)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "bridge \"%.32s\" comes without address ranges",
					 p->bridge->bridge);
	}
	return publish_check(plan, fault);
}

static int loopback_up(struct netlink *inside, struct fault *fault) {
	struct nl_batch b;
	nl_reset(&b);
	rtnl_put_link_up(&b, LOOPBACK_INDEX);
	int r = netlink_send(inside, &b, NULL);
	return r < 0 ? fault_errno(fault, r, "bring up the pod's loopback device") : 0;
}

static int work_init(struct work *w, const Bulkhead__NetworkPlan *plan, const struct network_pod *pod,
		     struct network_host *host, struct fault *fault) {
	w->plan = plan;
	w->pod = pod;
	w->host = host;
	if (plan)
		host_ifname_of(pod->id, plan->ifname, w->host_ifname);
	if (w->namespace == POD_GONE)
		return 0;
	int n = pod->netns_path ? snprintf(w->netns, sizeof(w->netns), "%s", pod->netns_path)
				: snprintf(w->netns, sizeof(w->netns), "/proc/%d/ns/net", getpid());
	if (n < 0 || (size_t)n >= sizeof(w->netns))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "path of the network namespace is too long");
	int r = netlink_open(NETLINK_ROUTE, &w->inside);
	return r < 0 ? fault_errno(fault, r, "open a routing socket in the pod") : 0;
}

static void tell(const struct work *w, struct network_attached *attached) {
	attached->n_ips = MIN(w->n_addresses, (size_t)NETWORK_IPS_MAX);
	for (size_t i = 0; i < attached->n_ips; i++)
		address_text(&w->addresses[i].address, attached->ips[i]);
}

static int work_publish(const struct work *w, struct network_attached *attached, struct fault *fault) {
	struct publish p = { w->plan, w->addresses, w->n_addresses, w->pod->id };
	return attached ? publish_attach(&p, w->host, attached, fault) : publish_detach(&p, w->host, fault);
}

static int attach_plan(struct work *w, struct network_attached *attached, struct fault *fault) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < w->plan->n_plugins; i++)
		r = plugin_add(w, w->plan->plugins[i], fault);
	if (r == 0)
		r = work_publish(w, attached, fault);
	if (r == 0 && w->n_addresses == 0)
		r = fault_set(fault, FAULT_FAILED_PRECONDITION, "no plugin gave the pod an address");
	return r;
}

static int record_load(struct work *w, const Bulkhead__NetworkRecord *record, struct fault *fault) {
	int r = record_addresses(record, w->addresses, &w->n_addresses);
	if (r == 0 && *record->result_json) {
		w->result = strdup(record->result_json);
		r = w->result ? 0 : -ENOMEM;
	}
	if (r == 0 && !rtnl_name_valid(record->host_ifname))
		r = -EBADMSG;
	if (r < 0)
		return fault_errno(fault, r, "read \"%s/network\"", w->pod->run_dir);
	strcpy(w->host_ifname, record->host_ifname);
	return 0;
}

static int detach_plan(struct work *w, struct fault *fault) {
	struct fault later;
	int result = work_publish(w, NULL, fault);
	for (size_t i = w->plan->n_plugins; i-- > 0;) {
		int r = plugin_delete(w, w->plan->plugins[i], result < 0 ? &later : fault);
		if (result == 0)
			result = r;
	}
	return result;
}

static int detach_recorded(struct work *w, const Bulkhead__NetworkRecord *record, const struct network_pod *pod,
			   struct network_host *host, struct fault *fault) {
	int r = plan_check(record->plan, fault);
	if (r == 0)
		r = work_init(w, record->plan, pod, host, fault);
	if (r == 0)
		r = record_load(w, record, fault);
	if (r == 0)
		r = detach_plan(w, fault);
	if (r == 0)
		r = record_remove(pod->run_dir, fault);
	return r < 0 ? fault_prefix(fault, r, "detach network \"%s\"", record->plan->name) : 0;
}

static int detach(const struct network_pod *pod, struct network_host *host, int namespace, struct fault *fault) {
	Bulkhead__NetworkRecord *record;
	int r = record_read(pod->run_dir, &record, fault);
	if (r < 0)
		return r;
	if (!record)
		return record_remove(pod->run_dir, fault); /* maybe half of one */
	struct work w = WORK_NONE;
	w.namespace = namespace;
	r = detach_recorded(&w, record, pod, host, fault);
	work_deinit(&w);
	bulkhead__network_record__free_unpacked(record, NULL);
	return r;
}

int network_detach(const struct network_pod *pod, struct network_host *host, bool in_pod, struct fault *fault) {
	return detach(pod, host, in_pod ? POD_HERE : POD_GONE, fault);
}

int network_attach(const Bulkhead__NetworkPlan *plan, const struct network_pod *pod, struct network_host *host,
		   struct network_attached *ret_attached, struct fault *fault) {
	CLEANUP(work_deinit) struct work w = WORK_NONE;
	struct network_attached attached = { 0 };
	int r = plan ? plan_check(plan, fault) : 0;
	if (r == 0)
		r = work_init(&w, plan, pod, host, fault);
	if (r == 0)
		r = loopback_up(&w.inside, fault);
	if (r == 0 && plan)
		r = detach(pod, host, POD_RETRY, fault); /* an attempt that died */
	if (r < 0)
		return r;
	if (plan) {
		r = attach_plan(&w, &attached, fault);
		if (r < 0) {
			struct fault ignored; /* the record stays, for the caller's own detach */
			detach(pod, host, POD_RETRY, &ignored);
			return fault_prefix(fault, r, "attach network \"%s\"", plan->name);
		}
	}
	tell(&w, &attached);
	*ret_attached = attached;
	return 0;
}
