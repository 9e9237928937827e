/*
 * Owns the table `inet bulkhead`: its layout, and which elements a pod has.
 *
 * A transaction that fails costs the kernel milliseconds, so nothing is tried:
 * the table and a subnet's chain are made when a look says they're missing
 * (and made again when somebody else was faster), an element is deleted only
 * when it was seen.
 */
#include "nat.h"
#include "nft.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>
#include <stdio.h>

#define ENTRIES_PER_TRANSACTION 64
#define CHAIN_NAME 80

enum set { SET_HOSTPORT, SET_HOSTIP, SET_PODS, SET_PUBLISHED, N_SETS };

static const struct nft_set_layout sets[2][N_SETS] = {
	{
	    [SET_HOSTPORT] = { .name = "hostport4",
			       .key_type = NFT_TYPE2(NFT_TYPE_PROTOCOL, NFT_TYPE_SERVICE),
			       .key_size = 8,
			       .data_type = NFT_TYPE2(NFT_TYPE_IPV4, NFT_TYPE_SERVICE),
			       .data_size = 8 },
	    [SET_HOSTIP] = { .name = "hostip4",
			     .key_type = NFT_TYPE3(NFT_TYPE_IPV4, NFT_TYPE_PROTOCOL, NFT_TYPE_SERVICE),
			     .key_size = 12,
			     .data_type = NFT_TYPE2(NFT_TYPE_IPV4, NFT_TYPE_SERVICE),
			     .data_size = 8 },
	    [SET_PODS] = { .name = "pods4", .key_type = NFT_TYPE_IPV4, .key_size = 4, .data_type = NFT_DATA_VERDICT },
	    [SET_PUBLISHED] = { .name = "published4", .key_type = NFT_TYPE_IPV4, .key_size = 4 },
	},
	{
	    [SET_HOSTPORT] = { .name = "hostport6",
			       .key_type = NFT_TYPE2(NFT_TYPE_PROTOCOL, NFT_TYPE_SERVICE),
			       .key_size = 8,
			       .data_type = NFT_TYPE2(NFT_TYPE_IPV6, NFT_TYPE_SERVICE),
			       .data_size = 20 },
	    [SET_HOSTIP] = { .name = "hostip6",
			     .key_type = NFT_TYPE3(NFT_TYPE_IPV6, NFT_TYPE_PROTOCOL, NFT_TYPE_SERVICE),
			     .key_size = 24,
			     .data_type = NFT_TYPE2(NFT_TYPE_IPV6, NFT_TYPE_SERVICE),
			     .data_size = 20 },
	    [SET_PODS] = { .name = "pods6", .key_type = NFT_TYPE_IPV6, .key_size = 16, .data_type = NFT_DATA_VERDICT },
	    /* No SET_PUBLISHED: ::1 can't be routed anywhere. */
	},
};

static const int families[2] = { AF_INET, AF_INET6 };

static const struct nft_set_layout *set_of(const struct address *a, enum set set) {
	return &sets[a->size == 4 ? 0 : 1][set];
}

/* --- the static part --- */

/* daddr (for hostip), protocol and port into consecutive registers, and DNAT
 * to what the map says. */
static void rule_publish(struct nl_batch *b, unsigned f, enum set set) {
	uint32_t words = families[f] == AF_INET ? 1 : 4;
	struct nft_rule r = nft_rule_open(b, "hostports");
	nft_if_family(&r, families[f]);
	uint32_t at = 0;
	if (set == SET_HOSTIP) {
		nft_load_address(&r, families[f], NFT_DESTINATION, NFT_R(0));
		at = words;
	}
	nft_meta(&r, NFT_META_L4PROTO, NFT_R(at));
	nft_payload(&r, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, NFT_R(at + 1));
	nft_lookup(&r, sets[f][set].name, NFT_R(0), NFT_R(0));
	nft_dnat(&r, families[f], NFT_R(0), NFT_R(words));
	nft_rule_close(&r);
}

/* Who comes to a published port from 127.0.0.1 must look like the host. */
static void rule_from_loopback(struct nl_batch *b) {
	struct address loopback;
	address_parse(&loopback, "127.0.0.0/8");
	struct nft_rule r = nft_rule_open(b, "postrouting");
	nft_if_family(&r, AF_INET);
	nft_if_within(&r, NFT_SOURCE, &loopback);
	nft_load_address(&r, AF_INET, NFT_DESTINATION, NFT_R(0));
	nft_lookup(&r, sets[0][SET_PUBLISHED].name, NFT_R(0), -1);
	nft_if_dnat(&r);
	nft_masquerade(&r);
	nft_rule_close(&r);
}

static void rule_from_pods(struct nl_batch *b, unsigned f) {
	struct nft_rule r = nft_rule_open(b, "postrouting");
	nft_if_family(&r, families[f]);
	nft_load_address(&r, families[f], NFT_SOURCE, NFT_R(0));
	nft_lookup(&r, sets[f][SET_PODS].name, NFT_R(0), NFT_REG_VERDICT);
	nft_rule_close(&r);
}

static void put_static(struct nl_batch *b) {
	static const struct {
		const char *name;
		int hook, priority;
	} hooks[] = {
		{ .name = "prerouting", .hook = NF_INET_PRE_ROUTING, .priority = NF_IP_PRI_NAT_DST },
		{ .name = "output", .hook = NF_INET_LOCAL_OUT, .priority = NF_IP_PRI_NAT_DST },
		{ .name = "postrouting", .hook = NF_INET_POST_ROUTING, .priority = NF_IP_PRI_NAT_SRC },
	};
	nft_put_table(b);
	for (unsigned f = 0; f < 2; f++)
		for (unsigned s = 0; s < N_SETS; s++)
			if (sets[f][s].name)
				nft_put_set(b, &sets[f][s], f * N_SETS + s + 1);
	nft_put_chain(b, "hostports", -1, 0, 0);
	for (unsigned f = 0; f < 2; f++) {
		rule_publish(b, f, SET_HOSTIP);
		rule_publish(b, f, SET_HOSTPORT);
	}
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++) {
		nft_put_chain(b, hooks[i].name, hooks[i].hook, hooks[i].priority, 0);
		if (hooks[i].hook == NF_INET_POST_ROUTING)
			continue;
		struct nft_rule r = nft_rule_open(b, hooks[i].name);
		nft_if_local_destination(&r);
		nft_verdict(&r, NFT_JUMP, "hostports");
		nft_rule_close(&r);
	}
	rule_from_loopback(b);
	for (unsigned f = 0; f < 2; f++)
		rule_from_pods(b, f);
}

static void chain_name(const struct address *a, bool masquerade, char ret_name[CHAIN_NAME]) {
	char text[ADDRESS_TEXT];
	struct address network = address_network(a);
	snprintf(ret_name, CHAIN_NAME, "%s-%s/%u", masquerade ? "masq" : "net", address_text(&network, text),
		 network.prefix);
	for (char *p = ret_name; *p; p++)
		if (*p == ':')
			*p = '_'; /* so that it is a word for nft */
}

static void put_subnet_chain(struct nl_batch *b, const struct address *a, bool masquerade) {
	char name[CHAIN_NAME];
	struct address network = address_network(a), multicast;
	address_parse(&multicast, a->size == 4 ? "224.0.0.0/4" : "ff00::/8");
	chain_name(a, masquerade, name);
	nft_put_chain(b, name, -1, 0, NLM_F_EXCL);

	struct nft_rule r = nft_rule_open(b, name);
	nft_if_family(&r, address_family(a));
	nft_if_within(&r, NFT_DESTINATION, &network);
	nft_if_dnat(&r);
	nft_masquerade(&r);
	nft_rule_close(&r);
	if (!masquerade)
		return;
	const struct address *stay[] = { &network, &multicast };
	for (size_t i = 0; i < ARRAY_SIZE(stay); i++) {
		r = nft_rule_open(b, name);
		nft_if_family(&r, address_family(a));
		nft_if_within(&r, NFT_DESTINATION, stay[i]);
		nft_verdict(&r, NFT_RETURN, NULL);
		nft_rule_close(&r);
	}
	r = nft_rule_open(b, name);
	nft_masquerade(&r);
	nft_rule_close(&r);
}

static int on_seen(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	return 0;
}

/* 1: there, 0: not there, or a negative errno. */
static int exists(struct netlink *nl, uint16_t message, uint16_t attribute, const char *chain) {
	struct nl_batch b;
	nl_reset(&b);
	nft_begin(&b, message, 0);
	nl_put_text(&b, attribute, NFT_TABLE);
	if (chain)
		nl_put_text(&b, NFTA_CHAIN_NAME, chain);
	int r = netlink_query(nl, &b, on_seen, NULL);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

static int ensure_table(struct netlink *nl) {
	int r = exists(nl, NFT_MSG_GETTABLE, NFTA_TABLE_NAME, NULL);
	if (r != 0)
		return MIN(r, 0);
	struct nl_batch b;
	nl_reset(&b);
	put_static(&b);
	r = netlink_transaction(nl, &b, NULL);
	return r == -EEXIST ? 0 : r; /* another keeper was faster */
}

static int ensure_chain(struct netlink *nl, const struct address *a, bool masquerade) {
	char name[CHAIN_NAME];
	chain_name(a, masquerade, name);
	int r = exists(nl, NFT_MSG_GETCHAIN, NFTA_CHAIN_TABLE, name);
	if (r != 0)
		return MIN(r, 0);
	r = ensure_table(nl);
	if (r < 0)
		return r;
	struct nl_batch b;
	nl_reset(&b);
	put_subnet_chain(&b, a, masquerade);
	r = netlink_transaction(nl, &b, NULL);
	return r == -EEXIST ? 0 : r;
}

/* --- a pod's elements --- */

static void key_add(uint8_t *bytes, size_t *size, const void *field, size_t field_size) {
	memcpy(bytes + *size, field, field_size);
	*size += (field_size + 3) & ~(size_t)3; /* each field begins a register */
}

static struct nft_element element_of(const struct nat_entry *entry, char chain[CHAIN_NAME]) {
	const struct address *a = &entry->address;
	struct nft_element e = { 0 };
	if (entry->kind == NAT_PORT) {
		uint16_t host_port = htons(entry->host_port), port = htons(entry->port);
		e.set = set_of(a, entry->host_ip.size ? SET_HOSTIP : SET_HOSTPORT)->name;
		if (entry->host_ip.size)
			key_add(e.key, &e.key_size, entry->host_ip.bytes, entry->host_ip.size);
		key_add(e.key, &e.key_size, &entry->protocol, sizeof(entry->protocol));
		key_add(e.key, &e.key_size, &host_port, sizeof(host_port));
		key_add(e.data, &e.data_size, a->bytes, a->size);
		key_add(e.data, &e.data_size, &port, sizeof(port));
		return e;
	}
	key_add(e.key, &e.key_size, a->bytes, a->size);
	e.set = set_of(a, entry->kind == NAT_PUBLISHED ? SET_PUBLISHED : SET_PODS)->name;
	if (entry->kind != NAT_PUBLISHED) {
		chain_name(a, entry->kind == NAT_MASQUERADE, chain);
		e.jump = chain;
	}
	return e;
}

static const char *protocol_name(uint8_t protocol) {
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_SCTP:
		return "sctp";
	default:
		return "?";
	}
}

static int add_fault(const struct nat_entry *entry, int r, const struct nl_answer *answer, struct fault *fault) {
	char text[ADDRESS_TEXT];
	/* EBUSY is what the kernel says to a key with another value. */
	if (entry->kind == NAT_PORT && (r == -EBUSY || r == -EEXIST))
		return fault_set(fault, FAULT_ALREADY_EXISTS,
				 "publish host port %u/%s: it is published for another pod already", entry->host_port,
				 protocol_name(entry->protocol));
	return fault_errno(fault, r, "add nftables elements for %s to table inet %s%s%s",
			   address_text(&entry->address, text), NFT_TABLE, answer->message[0] ? ": " : "",
			   answer->message);
}

static int add_some(struct netlink *nl, const struct nat_entry *entries, size_t n, const char *comment,
		    struct fault *fault) {
	struct nl_batch b;
	struct nl_answer answer;
	char chain[CHAIN_NAME];
	nl_reset(&b);
	for (size_t i = 0; i < n; i++) {
		struct nft_element e = element_of(&entries[i], chain);
		nft_put_element(&b, NFT_MSG_NEWSETELEM, &e, comment);
	}
	int r = netlink_transaction(nl, &b, &answer);
	return r < 0 ? add_fault(&entries[MIN(answer.failed, n - 1)], r, &answer, fault) : 0;
}

int nat_add(struct netlink *nl, const struct nat_entry *entries, size_t n, const char *comment, struct fault *fault) {
	for (size_t i = 0; i < n; i++) {
		const struct nat_entry *e = &entries[i];
		int r = 0;
		if (e->kind == NAT_POD || e->kind == NAT_MASQUERADE)
			r = ensure_chain(nl, &e->address, e->kind == NAT_MASQUERADE);
		else if (i == 0)
			r = ensure_table(nl);
		if (r < 0)
			return fault_errno(
			    fault, r, "make nftables table inet %s (is nf_tables with NAT in the kernel?)", NFT_TABLE);
	}
	for (size_t i = 0; i < n; i += ENTRIES_PER_TRANSACTION) {
		int r = add_some(nl, entries + i, MIN(n - i, (size_t)ENTRIES_PER_TRANSACTION), comment, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

struct expected {
	const struct nft_element *element;
	bool same;
};

/* The kernel's copy of one element: does it carry our data? */
static int on_element(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	struct expected *x = ctx;
	struct nl_attr top[NFTA_SET_ELEM_LIST_ELEMENTS + 1], item, attrs[NFTA_SET_ELEM_DATA + 1],
	    value[NFTA_DATA_MAX + 1];
	size_t skip = NLMSG_ALIGN(sizeof(struct nfgenmsg));
	if (size < skip)
		return -EPROTO;
	nl_parse(body + skip, size - skip, top, NFTA_SET_ELEM_LIST_ELEMENTS);
	const uint8_t *p = top[NFTA_SET_ELEM_LIST_ELEMENTS].data;
	size_t left = top[NFTA_SET_ELEM_LIST_ELEMENTS].size;
	if (!p || !nl_next(&p, &left, &item))
		return -EPROTO;
	nl_parse(item.data, item.size, attrs, NFTA_SET_ELEM_DATA);
	if (x->element->data_size == 0) {
		x->same = true; /* the key is the pod's own address */
		return 0;
	}
	const struct nl_attr *data = &attrs[NFTA_SET_ELEM_DATA];
	if (!data->data)
		return -EPROTO;
	nl_parse(data->data, data->size, value, NFTA_DATA_MAX);
	const struct nl_attr *v = &value[NFTA_DATA_VALUE];
	x->same = v->data && v->size == x->element->data_size && memcmp(v->data, x->element->data, v->size) == 0;
	return 0;
}

static int remove_some(struct netlink *nl, const struct nat_entry *entries, size_t n) {
	struct nl_batch b, query;
	char chain[CHAIN_NAME];
	nl_reset(&b);
	for (size_t i = 0; i < n; i++) {
		struct nft_element e = element_of(&entries[i], chain);
		struct expected x = { .element = &e };
		nl_reset(&query);
		nft_put_element(&query, NFT_MSG_GETSETELEM, &e, NULL);
		int r = netlink_query(nl, &query, on_element, &x);
		if (r < 0 && r != -ENOENT)
			return r;
		if (r == 0 && x.same)
			nft_put_element(&b, NFT_MSG_DELSETELEM, &e, NULL);
	}
	return netlink_transaction(nl, &b, NULL);
}

int nat_remove(struct netlink *nl, const struct nat_entry *entries, size_t n, struct fault *fault) {
	for (size_t i = 0; i < n; i += ENTRIES_PER_TRANSACTION) {
		/* ENOENT: somebody flushed the table between the look and the
		 * deletion; the second look sees it. */
		size_t some = MIN(n - i, (size_t)ENTRIES_PER_TRANSACTION);
		int r = remove_some(nl, entries + i, some);
		if (r == -ENOENT)
			r = remove_some(nl, entries + i, some);
		if (r < 0)
			return fault_errno(fault, r, "remove nftables elements from table inet %s", NFT_TABLE);
	}
	return 0;
}
