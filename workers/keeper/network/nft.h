/*
 * Words of the nf_tables language: messages for tables, chains, rules, sets and
 * elements, and the expressions that rules are made of. Only builds; what the
 * rules are is nat.c's business.
 */
#pragma once

#include "net/address.h"
#include "net/netlink.h"

#include <linux/netfilter/nf_tables.h>

#define NFT_TABLE "bulkhead"

/* nft's own numbers for key and data types, so that `nft list` can print what
 * we made. A concatenation is six bits each. */
enum nft_type {
	NFT_TYPE_IPV4 = 7,
	NFT_TYPE_IPV6 = 8,
	NFT_TYPE_PROTOCOL = 12,
	NFT_TYPE_SERVICE = 13,
};
#define NFT_TYPE2(a, b) (((uint32_t)(a) << 6) | (b))
#define NFT_TYPE3(a, b, c) ((NFT_TYPE2(a, b) << 6) | (c))

/* 32-bit registers; a key of several fields lies in consecutive ones. */
#define NFT_R(n) (NFT_REG32_00 + (n))

void nft_begin(struct nl_batch *b, uint16_t message, uint16_t flags);

void nft_put_table(struct nl_batch *b);
/* hook < 0: not a base chain. */
void nft_put_chain(struct nl_batch *b, const char *name, int hook, int priority, uint16_t flags);

struct nft_set_layout {
	const char *name;
	uint32_t key_type, key_size;
	uint32_t data_type, data_size; /* 0: a set; NFT_DATA_VERDICT: a verdict map */
};
void nft_put_set(struct nl_batch *b, const struct nft_set_layout *set, uint32_t id);

struct nft_element {
	const char *set;
	uint8_t key[24], data[20];
	size_t key_size, data_size;
	const char *jump; /* in a verdict map: the chain; else NULL */
};
/* message: NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM or NFT_MSG_GETSETELEM. The
 * comment is what `nft list` shows beside a new element. */
void nft_put_element(struct nl_batch *b, uint16_t message, const struct nft_element *e, const char *comment);

/* A rule: open, expressions in the order of evaluation, close. */
struct nft_rule {
	struct nl_batch *batch;
	size_t expressions;
};
struct nft_rule nft_rule_open(struct nl_batch *b, const char *chain);
void nft_rule_close(struct nft_rule *r);

void nft_meta(struct nft_rule *r, uint32_t key, uint32_t reg);
void nft_payload(struct nft_rule *r, uint32_t base, uint32_t offset, uint32_t size, uint32_t reg);
void nft_compare(struct nft_rule *r, uint32_t reg, uint32_t op, const void *value, size_t size);
/* reg &= mask */
void nft_mask(struct nft_rule *r, uint32_t reg, const void *mask, size_t size);
/* dreg < 0: the key must be in the set; NFT_REG_VERDICT: a verdict map. */
void nft_lookup(struct nft_rule *r, const char *set, uint32_t reg, int dreg);
void nft_verdict(struct nft_rule *r, int32_t code, const char *chain);
void nft_dnat(struct nft_rule *r, int family, uint32_t address_reg, uint32_t port_reg);
void nft_masquerade(struct nft_rule *r);

/* Conditions that several rules share. */
void nft_if_family(struct nft_rule *r, int family);
void nft_if_local_destination(struct nft_rule *r);
void nft_if_dnat(struct nft_rule *r); /* the connection was redirected */
enum nft_side { NFT_SOURCE, NFT_DESTINATION };
void nft_load_address(struct nft_rule *r, int family, enum nft_side side, uint32_t reg);
void nft_if_within(struct nft_rule *r, enum nft_side side, const struct address *subnet);
