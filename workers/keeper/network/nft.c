/* Owns the spelling of nf_tables messages. Pure: fills batches. */
#include "nft.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

void nft_begin(struct nl_batch *b, uint16_t message, uint16_t flags) {
	struct nfgenmsg header = { .nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0 };
	nl_begin(b, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | message), flags, &header, sizeof(header));
}

void nft_put_table(struct nl_batch *b) {
	nft_begin(b, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
	nl_put_text(b, NFTA_TABLE_NAME, NFT_TABLE);
}

void nft_put_chain(struct nl_batch *b, const char *name, int hook, int priority, uint16_t flags) {
	nft_begin(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE | flags);
	nl_put_text(b, NFTA_CHAIN_TABLE, NFT_TABLE);
	nl_put_text(b, NFTA_CHAIN_NAME, name);
	if (hook < 0)
		return;
	size_t at = nl_nest(b, NFTA_CHAIN_HOOK);
	nl_put_be32(b, NFTA_HOOK_HOOKNUM, (uint32_t)hook);
	nl_put_be32(b, NFTA_HOOK_PRIORITY, (uint32_t)priority);
	nl_nest_end(b, at);
	nl_put_be32(b, NFTA_CHAIN_POLICY, NF_ACCEPT);
	nl_put_text(b, NFTA_CHAIN_TYPE, "nat");
}

void nft_put_set(struct nl_batch *b, const struct nft_set_layout *set, uint32_t id) {
	nft_begin(b, NFT_MSG_NEWSET, NLM_F_CREATE);
	nl_put_text(b, NFTA_SET_TABLE, NFT_TABLE);
	nl_put_text(b, NFTA_SET_NAME, set->name);
	nl_put_be32(b, NFTA_SET_ID, id);
	nl_put_be32(b, NFTA_SET_FLAGS, set->data_type ? NFT_SET_MAP : 0);
	nl_put_be32(b, NFTA_SET_KEY_TYPE, set->key_type);
	nl_put_be32(b, NFTA_SET_KEY_LEN, set->key_size);
	if (!set->data_type)
		return;
	nl_put_be32(b, NFTA_SET_DATA_TYPE, set->data_type);
	if (set->data_type != NFT_DATA_VERDICT)
		nl_put_be32(b, NFTA_SET_DATA_LEN, set->data_size);
}

/* The data attribute of an expression or element: a value or a verdict. */
static void put_value(struct nl_batch *b, uint16_t type, const void *value, size_t size) {
	size_t at = nl_nest(b, type);
	nl_put(b, NFTA_DATA_VALUE, value, size);
	nl_nest_end(b, at);
}

static void put_verdict(struct nl_batch *b, uint16_t type, int32_t code, const char *chain) {
	size_t at = nl_nest(b, type);
	size_t verdict = nl_nest(b, NFTA_DATA_VERDICT);
	nl_put_be32(b, NFTA_VERDICT_CODE, (uint32_t)code);
	if (chain)
		nl_put_text(b, NFTA_VERDICT_CHAIN, chain);
	nl_nest_end(b, verdict);
	nl_nest_end(b, at);
}

/* nft keeps comments as type-length-value in the element's user data. */
static void put_comment(struct nl_batch *b, const char *comment) {
	uint8_t data[2 + 128] = { 0 };
	size_t n = strnlen(comment, sizeof(data) - 3);
	data[1] = (uint8_t)(n + 1); /* type 0 is a comment */
	memcpy(data + 2, comment, n);
	nl_put(b, NFTA_SET_ELEM_USERDATA, data, n + 3);
}

void nft_put_element(struct nl_batch *b, uint16_t message, const struct nft_element *e, const char *comment) {
	bool new = message == NFT_MSG_NEWSETELEM;
	nft_begin(b, message, new ? NLM_F_CREATE : 0);
	nl_put_text(b, NFTA_SET_ELEM_LIST_TABLE, NFT_TABLE);
	nl_put_text(b, NFTA_SET_ELEM_LIST_SET, e->set);
	size_t list = nl_nest(b, NFTA_SET_ELEM_LIST_ELEMENTS);
	size_t element = nl_nest(b, NFTA_LIST_ELEM);
	put_value(b, NFTA_SET_ELEM_KEY, e->key, e->key_size);
	if (new && e->jump)
		put_verdict(b, NFTA_SET_ELEM_DATA, NFT_JUMP, e->jump);
	else if (new && e->data_size)
		put_value(b, NFTA_SET_ELEM_DATA, e->data, e->data_size);
	if (new &&comment)
		put_comment(b, comment);
	nl_nest_end(b, element);
	nl_nest_end(b, list);
}

struct nft_rule nft_rule_open(struct nl_batch *b, const char *chain) {
	nft_begin(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
	nl_put_text(b, NFTA_RULE_TABLE, NFT_TABLE);
	nl_put_text(b, NFTA_RULE_CHAIN, chain);
	return (struct nft_rule){ .batch = b, .expressions = nl_nest(b, NFTA_RULE_EXPRESSIONS) };
}

void nft_rule_close(struct nft_rule *r) {
	nl_nest_end(r->batch, r->expressions);
}

struct expression {
	size_t element, data;
};

static struct expression expression_open(struct nft_rule *r, const char *name) {
	struct expression e = { .element = nl_nest(r->batch, NFTA_LIST_ELEM) };
	nl_put_text(r->batch, NFTA_EXPR_NAME, name);
	e.data = nl_nest(r->batch, NFTA_EXPR_DATA);
	return e;
}

static void expression_close(struct nft_rule *r, const struct expression *e) {
	nl_nest_end(r->batch, e->data);
	nl_nest_end(r->batch, e->element);
}

void nft_meta(struct nft_rule *r, uint32_t key, uint32_t reg) {
	struct expression e = expression_open(r, "meta");
	nl_put_be32(r->batch, NFTA_META_KEY, key);
	nl_put_be32(r->batch, NFTA_META_DREG, reg);
	expression_close(r, &e);
}

void nft_payload(struct nft_rule *r, uint32_t base, uint32_t offset, uint32_t size, uint32_t reg) {
	struct expression e = expression_open(r, "payload");
	nl_put_be32(r->batch, NFTA_PAYLOAD_DREG, reg);
	nl_put_be32(r->batch, NFTA_PAYLOAD_BASE, base);
	nl_put_be32(r->batch, NFTA_PAYLOAD_OFFSET, offset);
	nl_put_be32(r->batch, NFTA_PAYLOAD_LEN, size);
	expression_close(r, &e);
}

void nft_compare(struct nft_rule *r, uint32_t reg, uint32_t op, const void *value, size_t size) {
	struct expression e = expression_open(r, "cmp");
	nl_put_be32(r->batch, NFTA_CMP_SREG, reg);
	nl_put_be32(r->batch, NFTA_CMP_OP, op);
	put_value(r->batch, NFTA_CMP_DATA, value, size);
	expression_close(r, &e);
}

void nft_mask(struct nft_rule *r, uint32_t reg, const void *mask, size_t size) {
	static const uint8_t zero[16];
	struct expression e = expression_open(r, "bitwise");
	nl_put_be32(r->batch, NFTA_BITWISE_SREG, reg);
	nl_put_be32(r->batch, NFTA_BITWISE_DREG, reg);
	nl_put_be32(r->batch, NFTA_BITWISE_LEN, (uint32_t)size);
	put_value(r->batch, NFTA_BITWISE_MASK, mask, size);
	put_value(r->batch, NFTA_BITWISE_XOR, zero, size);
	expression_close(r, &e);
}

void nft_lookup(struct nft_rule *r, const char *set, uint32_t reg, int dreg) {
	struct expression e = expression_open(r, "lookup");
	nl_put_text(r->batch, NFTA_LOOKUP_SET, set);
	nl_put_be32(r->batch, NFTA_LOOKUP_SREG, reg);
	if (dreg >= 0)
		nl_put_be32(r->batch, NFTA_LOOKUP_DREG, (uint32_t)dreg);
	expression_close(r, &e);
}

void nft_verdict(struct nft_rule *r, int32_t code, const char *chain) {
	struct expression e = expression_open(r, "immediate");
	nl_put_be32(r->batch, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	put_verdict(r->batch, NFTA_IMMEDIATE_DATA, code, chain);
	expression_close(r, &e);
}

void nft_dnat(struct nft_rule *r, int family, uint32_t address_reg, uint32_t port_reg) {
	struct expression e = expression_open(r, "nat");
	nl_put_be32(r->batch, NFTA_NAT_TYPE, NFT_NAT_DNAT);
	nl_put_be32(r->batch, NFTA_NAT_FAMILY, family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6);
	nl_put_be32(r->batch, NFTA_NAT_REG_ADDR_MIN, address_reg);
	nl_put_be32(r->batch, NFTA_NAT_REG_PROTO_MIN, port_reg);
	expression_close(r, &e);
}

void nft_masquerade(struct nft_rule *r) {
	struct expression e = expression_open(r, "masq");
	expression_close(r, &e);
}

void nft_if_family(struct nft_rule *r, int family) {
	uint8_t value = family == AF_INET ? NFPROTO_IPV4 : NFPROTO_IPV6;
	nft_meta(r, NFT_META_NFPROTO, NFT_R(0));
	nft_compare(r, NFT_R(0), NFT_CMP_EQ, &value, sizeof(value));
}

void nft_if_local_destination(struct nft_rule *r) {
	uint32_t local = RTN_LOCAL;
	struct expression e = expression_open(r, "fib");
	nl_put_be32(r->batch, NFTA_FIB_DREG, NFT_R(0));
	nl_put_be32(r->batch, NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE);
	nl_put_be32(r->batch, NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR);
	expression_close(r, &e);
	nft_compare(r, NFT_R(0), NFT_CMP_EQ, &local, sizeof(local));
}

void nft_if_dnat(struct nft_rule *r) {
	uint32_t mask = IPS_DST_NAT, zero = 0;
	struct expression e = expression_open(r, "ct");
	nl_put_be32(r->batch, NFTA_CT_KEY, NFT_CT_STATUS);
	nl_put_be32(r->batch, NFTA_CT_DREG, NFT_R(0));
	expression_close(r, &e);
	nft_mask(r, NFT_R(0), &mask, sizeof(mask));
	nft_compare(r, NFT_R(0), NFT_CMP_NEQ, &zero, sizeof(zero));
}

void nft_load_address(struct nft_rule *r, int family, enum nft_side side, uint32_t reg) {
	uint32_t size = family == AF_INET ? 4 : 16;
	uint32_t source = family == AF_INET ? 12 : 8; /* offset in the IP header */
	nft_payload(r, NFT_PAYLOAD_NETWORK_HEADER, side == NFT_SOURCE ? source : source + size, size, reg);
}

void nft_if_within(struct nft_rule *r, enum nft_side side, const struct address *subnet) {
	struct address mask = { .size = subnet->size, .prefix = subnet->prefix };
	memset(mask.bytes, 0xff, mask.size);
	mask = address_network(&mask);
	nft_load_address(r, address_family(subnet), side, NFT_R(0));
	nft_mask(r, NFT_R(0), mask.bytes, mask.size);
	nft_compare(r, NFT_R(0), NFT_CMP_EQ, subnet->bytes, subnet->size);
}
