/* Netlink's wire form: what is built is what the kernel would read, what
 * doesn't fit is refused, and no answer can lead out of its bytes. */
#include "tests/unit/tap.h"
#include "net/address.h"
#include "net/netlink.h"
#include "net/rtnl.h"

#include <errno.h>
#include <linux/rtnetlink.h>

static void test_build(void) {
	struct nl_batch b = { 0 };
	struct ifinfomsg header = { .ifi_index = 7 };
	nl_begin(&b, RTM_NEWLINK, NLM_F_CREATE, &header, sizeof(header));
	nl_put_text(&b, IFLA_IFNAME, "eth0");
	size_t info = nl_nest(&b, IFLA_LINKINFO);
	nl_put_text(&b, IFLA_INFO_KIND, "veth");
	nl_nest_end(&b, info);
	nl_begin(&b, RTM_DELLINK, 0, &header, sizeof(header));
	nl_put_u8(&b, IFLA_OPERSTATE, 3);

	struct nlmsghdr *h = (struct nlmsghdr *)b.data;
	tap_check(!b.failed && b.n_messages == 2, "two messages");
	tap_check(h->nlmsg_len == 16 + 16 + 12 + 4 + 12 && h->nlmsg_type == RTM_NEWLINK &&
		      h->nlmsg_flags == (NLM_F_REQUEST | NLM_F_CREATE),
		  "the first one's header");
	tap_check(((struct ifinfomsg *)(h + 1))->ifi_index == 7, "the family's header");
	const uint8_t *p = b.data + 32;
	size_t left = h->nlmsg_len - 32;
	struct nl_attr a, inner;
	tap_check(nl_next(&p, &left, &a) && a.type == IFLA_IFNAME && strcmp(nl_text(&a), "eth0") == 0, "a text");
	tap_check(nl_next(&p, &left, &a) && a.type == IFLA_LINKINFO && a.size == 12, "a nest without its flag");
	tap_check(nl_next(&a.data, &a.size, &inner) && strcmp(nl_text(&inner), "veth") == 0, "and what is in it");
	tap_check(!nl_next(&p, &left, &a) && left == 0, "and no more");
	h = (struct nlmsghdr *)(b.data + h->nlmsg_len);
	tap_check(h->nlmsg_type == RTM_DELLINK && h->nlmsg_len == 16 + 16 + 8, "the second, padded");
}

static void test_limits(void) {
	static struct nl_batch b;
	static uint8_t big[NL_BATCH_SIZE];
	struct netlink none = NETLINK_NONE;
	nl_begin(&b, 1, 0, big, 4);
	while (!b.failed)
		nl_put(&b, 1, big, 1000);
	tap_check(b.size <= NL_BATCH_SIZE, "a full batch stays within its bytes");
	tap_check(netlink_send(&none, &b, NULL) == -EMSGSIZE, "and isn't sent");
	nl_put_u32(&b, 1, 1);
	tap_check(b.failed, "failure is sticky");
	nl_reset(&b);
	nl_begin(&b, 1, 0, big, 4);
	nl_put(&b, 1, big, 70000);
	tap_check(b.failed, "an attribute has 16 bits for its length");
	nl_reset(&b);
	for (int i = 0; i <= NL_MESSAGES_MAX; i++)
		nl_begin(&b, 1, 0, big, 4);
	tap_check(b.failed, "messages are counted");
}

static void test_garbage(void) {
	static const struct {
		const char *name;
		uint8_t data[12];
		size_t size;
	} cases[] = {
		{ "nothing", { 0 }, 0 },
		{ "half a header", { 8, 0, 1 }, 3 },
		{ "shorter than its header", { 3, 0, 1, 0, 9, 9 }, 6 },
		{ "longer than what is there", { 13, 0, 1, 0, 9, 9, 9, 9, 9, 9, 9, 9 }, 12 },
		{ "length zero", { 0, 0, 1, 0 }, 4 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint8_t *p = cases[i].data;
		size_t left = cases[i].size;
		struct nl_attr a;
		tap_check(!nl_next(&p, &left, &a), "%s", cases[i].name);
	}
	/* The last attribute may lack its padding. */
	const uint8_t tail[] = { 5, 0, 1, 0, 42 }, *p = tail;
	size_t left = sizeof(tail);
	struct nl_attr a, table[3];
	tap_check(nl_next(&p, &left, &a) && a.size == 1 && a.data[0] == 42 && left == 0, "a tail without padding");
	tap_check(nl_u32(&a, 7) == 7 && nl_be32(&a, 7) == 7 && nl_text(&a) == NULL, "too short for a number or a text");
	const uint8_t many[] = { 5, 0, 1, 0, 1, 0, 0, 0, 4, 0, 9, 0, 5, 0, 2, 0x80, 2, 0, 0, 0 };
	nl_parse(many, sizeof(many), table, 2);
	tap_check(table[1].data[0] == 1 && table[2].data[0] == 2 && !table[0].data,
		  "a table skips what it doesn't know");
}

static void test_address(void) {
	static const char *const bad[] = { "",		"10.0.0",     "10.0.0.1/33",
					   "10.0.0.1/", "10.0.0.1/x", "10.0.0.1/-1",
					   "::1/129",	"1.2.3.4/8 ", "fe80::1%eth0" };
	char text[ADDRESS_TEXT];
	struct address a, n;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		tap_check(!address_parse(&a, bad[i]), "\"%s\" is no address", bad[i]);
	tap_check(address_parse(&a, "10.88.255.255/13") && a.prefix == 13, "IPv4 with a prefix");
	n = address_network(&a);
	tap_check(strcmp(address_text(&n, text), "10.88.0.0") == 0 && address_within(&a, &n), "its network");
	address_advance(&a);
	tap_check(strcmp(address_text(&a, text), "10.89.0.0") == 0 && address_within(&a, &n), "the next, with carry");
	tap_check(address_parse(&a, "fd00::ffff") && a.prefix == 128, "IPv6 is one host by default");
	address_advance(&a);
	tap_check(strcmp(address_text(&a, text), "fd00::1:0") == 0, "with carry too");
	tap_check(address_parse(&a, "1.2.3.4/0"), "a prefix of zero");
	n = address_network(&a);
	tap_check(strcmp(address_text(&n, text), "0.0.0.0") == 0, "is the whole Internet");
	ProtobufCBinaryData five = { 5, (uint8_t *)"12345" }, four = { 4, (uint8_t *)"1234" }, none = { 0, NULL };
	tap_check(!address_set(&a, &five, 8, true) && !address_set(&a, &four, 33, true) &&
		      !address_set(&a, &none, 0, false) && address_set(&a, &none, 0, true) && a.size == 0,
		  "from a message's bytes");
}

static int count(void *ctx, const struct rtnl_link *link) {
	*(unsigned *)ctx += strcmp(link->name, "lo") == 0;
	return 0;
}

static void test_dump(void) {
	CLEANUP(netlink_close) struct netlink nl = NETLINK_NONE;
	unsigned n = 0;
	tap_check(netlink_open(NETLINK_ROUTE, &nl) == 0 && rtnl_links(&nl, count, &n) == 0 && n == 1,
		  "each answer to a dump comes once");
}

int main(void) {
	test_build();
	test_limits();
	test_garbage();
	test_address();
	test_dump();
	return tap_done();
}
