/* IPv4 and IPv6 addresses with a prefix length, as values. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ADDRESS_TEXT 46

struct address {
	uint8_t size;	/* 4 or 16; 0: none */
	uint8_t prefix; /* bits */
	uint8_t bytes[16];
};

/* What a pod gets. */
struct pod_address {
	struct address address; /* with the subnet's prefix */
	struct address gateway; /* may be none */
};

static inline int address_family(const struct address *a) {
	return a->size == 4 ? AF_INET : AF_INET6;
}
static inline unsigned address_bits(const struct address *a) {
	return a->size * 8u;
}
/* From what a message carries; false when the lengths make no address. Empty
 * bytes are an address only with may_be_none. */
bool address_set(struct address *ret_a, const ProtobufCBinaryData *bytes, uint32_t prefix, bool may_be_none);
/* "10.88.0.2/16"; without a prefix it is that of one host. */
bool address_parse(struct address *ret_a, const char *text);
const char *address_text(const struct address *a, char ret_text[ADDRESS_TEXT]); /* without the prefix */
/* Same family; the prefix doesn't count. */
int address_compare(const struct address *a, const struct address *b);
static inline bool address_equal(const struct address *a, const struct address *b) {
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}
/* The network of an address: host bits zero. */
struct address address_network(const struct address *a);
/* Does a, of the same family, lie in subnet? */
bool address_within(const struct address *a, const struct address *subnet);
/* The next higher one; wraps to zero. */
void address_advance(struct address *a);
