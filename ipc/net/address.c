/* Arithmetic on addresses; pure. */
#include "net/address.h"

#include <stdio.h>
#include <stdlib.h>

bool address_set(struct address *ret_a, const ProtobufCBinaryData *bytes, uint32_t prefix, bool may_be_none) {
	if (bytes->len == 0 && may_be_none) {
		*ret_a = (struct address){ 0 };
		return true;
	}
	if ((bytes->len != 4 && bytes->len != 16) || prefix > bytes->len * 8)
		return false;
	*ret_a = (struct address){ .size = (uint8_t)bytes->len, .prefix = (uint8_t)prefix };
	memcpy(ret_a->bytes, bytes->data, bytes->len);
	return true;
}

bool address_parse(struct address *ret_a, const char *text) {
	char host[ADDRESS_TEXT];
	size_t n = strcspn(text, "/");
	if (n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	struct address a = { .size = strchr(host, ':') ? 16 : 4 };
	if (inet_pton(address_family(&a), host, a.bytes) != 1)
		return false;
	unsigned long prefix = address_bits(&a);
	if (text[n] == '/') {
		const char *p = text + n + 1;
		char *end;
		prefix = strtoul(p, &end, 10);
		if (*p < '0' || *p > '9' || *end || prefix > address_bits(&a))
			return false;
	}
	a.prefix = (uint8_t)prefix;
	*ret_a = a;
	return true;
}

const char *address_text(const struct address *a, char ret_text[ADDRESS_TEXT]) {
	if (a->size == 0 || !inet_ntop(address_family(a), a->bytes, ret_text, ADDRESS_TEXT))
		snprintf(ret_text, ADDRESS_TEXT, "none");
	return ret_text;
}

int address_compare(const struct address *a, const struct address *b) {
	return memcmp(a->bytes, b->bytes, a->size);
}

struct address address_network(const struct address *a) {
	struct address n = *a;
	for (unsigned i = 0; i < n.size; i++) {
		unsigned bits = n.prefix > i * 8u ? n.prefix - i * 8u : 0;
		n.bytes[i] &= bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);
	}
	return n;
}

bool address_within(const struct address *a, const struct address *subnet) {
	struct address n = *a;
	n.prefix = subnet->prefix;
	n = address_network(&n);
	return address_equal(&n, subnet);
}

void address_advance(struct address *a) {
	for (unsigned i = a->size; i-- > 0;)
		if (++a->bytes[i] != 0)
			return;
}
