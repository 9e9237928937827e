/*
 * Netlink, raw: requests are built into a batch of fixed size, sent by one
 * system call, and answered before that call returns (the kernel handles
 * rtnetlink and nfnetlink in the sender's context), so reading acks never
 * waits.
 *
 *     struct nl_batch b = { 0 };
 *     nl_begin(&b, RTM_NEWLINK, NLM_F_CREATE, &header, sizeof(header));
 *     nl_put_text(&b, IFLA_IFNAME, "eth0");
 *     size_t info = nl_nest(&b, IFLA_LINKINFO);
 *     ...
 *     nl_nest_end(&b, info);
 *     r = netlink_send(nl, &b, &reply);
 *
 * A batch that doesn't fit is sticky and netlink_send says -EMSGSIZE. Answers
 * are walked with checked lengths; nothing in them is trusted to be aligned
 * beyond what the walk has checked.
 */
#pragma once

#include "base/macros.h"

#include <linux/netlink.h>
#include <stdbool.h>
#include <string.h>

struct netlink {
	int fd;
	uint32_t seq;
};
#define NETLINK_NONE \
	{ .fd = -1 }

/* protocol is NETLINK_ROUTE or NETLINK_NETFILTER; the socket belongs to the
 * network namespace that the caller is in. */
int netlink_open(int protocol, struct netlink *ret_nl) NODISCARD;
void netlink_close(struct netlink *nl);

#define NL_BATCH_SIZE 16384
#define NL_MESSAGES_MAX 96

struct nl_batch {
	size_t size;
	size_t message; /* where the open message begins */
	unsigned n_messages;
	bool failed;
	_Alignas(8) uint8_t data[NL_BATCH_SIZE];
};

/* Empty again; cheaper than clearing the whole struct. */
static inline void nl_reset(struct nl_batch *b) {
	b->size = b->message = 0;
	b->n_messages = 0;
	b->failed = false;
}

/* Opens a message; NLM_F_REQUEST is added. The header is the family's own
 * (ifinfomsg, nfgenmsg, ...). */
void nl_begin(struct nl_batch *b, uint16_t type, uint16_t flags, const void *header, size_t size);
void nl_put(struct nl_batch *b, uint16_t type, const void *data, size_t size);
void nl_put_text(struct nl_batch *b, uint16_t type, const char *text); /* with its NUL */
void nl_put_u8(struct nl_batch *b, uint16_t type, uint8_t value);
void nl_put_u16(struct nl_batch *b, uint16_t type, uint16_t value);
void nl_put_u32(struct nl_batch *b, uint16_t type, uint32_t value);
void nl_put_be32(struct nl_batch *b, uint16_t type, uint32_t value); /* nfnetlink's numbers */
/* An attribute of attributes; ends with nl_nest_end of what it returned. */
size_t nl_nest(struct nl_batch *b, uint16_t type);
/* The same with a struct in front of the attributes (VETH_INFO_PEER). */
size_t nl_nest_with(struct nl_batch *b, uint16_t type, const void *header, size_t size);
void nl_nest_end(struct nl_batch *b, size_t at);

struct nl_answer {
	unsigned failed;   /* index of the message that failed */
	char message[128]; /* the kernel's own words, or "" */
};

/* Sends every message with NLM_F_ACK and collects the acks. The first error as
 * a negative errno. Messages after a failed one are still carried out
 * (rtnetlink); ret_answer may be NULL. */
int netlink_send(struct netlink *nl, struct nl_batch *b, struct nl_answer *ret_answer);

/* One attribute; data is checked to lie within its message. */
struct nl_attr {
	uint16_t type; /* without the flag bits */
	size_t size;
	const uint8_t *data;
};
/* Takes the next attribute off *p, *left; false at the end or at garbage. */
bool nl_next(const uint8_t **p, size_t *left, struct nl_attr *ret_attr);
/* The attributes by type, those above max are skipped; absent: data NULL. */
void nl_parse(const uint8_t *p, size_t left, struct nl_attr *ret_attrs, size_t max);
/* The attribute's value, or the default when it's absent or short. */
uint32_t nl_u32(const struct nl_attr *a, uint32_t absent);
uint32_t nl_be32(const struct nl_attr *a, uint32_t absent);
/* NUL-terminated inside its attribute, else NULL. */
const char *nl_text(const struct nl_attr *a);

/* One answer to the batch's only message: body begins after the nlmsghdr. A
 * negative return ends the walk and is passed up. */
typedef int (*nl_message_fn)(void *ctx, uint16_t type, const uint8_t *body, size_t size);
/* Sends the one message and calls fn for each answer: one for a get, many for
 * a dump (NLM_F_DUMP in its flags). -EINTR: what was dumped changed meanwhile. */
int netlink_query(struct netlink *nl, struct nl_batch *b, nl_message_fn fn, void *ctx);

/* nfnetlink only: the messages as one transaction, all or nothing. */
int netlink_transaction(struct netlink *nl, struct nl_batch *b, struct nl_answer *ret_answer);
