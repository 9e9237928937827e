/*
 * Owns the wire form of netlink: lengths, alignment, sequence numbers, acks.
 * Happy path: build, one sendmsg, one or two recv. A message that the kernel
 * doesn't answer is -EPROTO; an overrun of the receive buffer (ENOBUFS) is
 * passed up, and the caller's operation counts as failed.
 */
#include "net/netlink.h"

#include "base/fd.h"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nf_tables.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define RECEIVE_SIZE 16384

int netlink_open(int protocol, struct netlink *ret_nl) {
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		return -errno;
	/* Errors come without a copy of the request, but with the kernel's words;
	 * both are a comfort, not a need. */
	static const int on = 1;
	setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0)
		return -errno;
	*ret_nl = (struct netlink){ .fd = take_fd(&fd), .seq = 1 };
	return 0;
}

void netlink_close(struct netlink *nl) {
	fd_close_p(&nl->fd);
}

/* Aligned room for size bytes, zeroed; NULL when the batch is full. */
static uint8_t *batch_room(struct nl_batch *b, size_t size) {
	if (b->failed || size > NL_BATCH_SIZE || NLMSG_ALIGN(size) > NL_BATCH_SIZE - b->size) {
		b->failed = true;
		return NULL;
	}
	uint8_t *p = b->data + b->size;
	memset(p, 0, NLMSG_ALIGN(size));
	b->size += NLMSG_ALIGN(size);
	struct nlmsghdr *h = (struct nlmsghdr *)(b->data + b->message);
	h->nlmsg_len = (uint32_t)(b->size - b->message);
	return p;
}

void nl_begin(struct nl_batch *b, uint16_t type, uint16_t flags, const void *header, size_t size) {
	if (b->n_messages == NL_MESSAGES_MAX)
		b->failed = true;
	b->message = b->size;
	uint8_t *p = batch_room(b, NLMSG_HDRLEN + size);
	if (!p)
		return;
	struct nlmsghdr *h = (struct nlmsghdr *)p;
	h->nlmsg_type = type;
	h->nlmsg_flags = flags | NLM_F_REQUEST;
	memcpy(p + NLMSG_HDRLEN, header, size);
	b->n_messages++;
}

void nl_put(struct nl_batch *b, uint16_t type, const void *data, size_t size) {
	uint8_t *p = size <= UINT16_MAX - NLA_HDRLEN ? batch_room(b, NLA_HDRLEN + size) : NULL;
	if (!p) {
		b->failed = true;
		return;
	}
	struct nlattr *a = (struct nlattr *)p;
	a->nla_type = type;
	a->nla_len = (uint16_t)(NLA_HDRLEN + size);
	if (size > 0)
		memcpy(p + NLA_HDRLEN, data, size);
}

void nl_put_text(struct nl_batch *b, uint16_t type, const char *text) {
	nl_put(b, type, text, strlen(text) + 1);
}
void nl_put_u8(struct nl_batch *b, uint16_t type, uint8_t value) {
	nl_put(b, type, &value, sizeof(value));
}
void nl_put_u16(struct nl_batch *b, uint16_t type, uint16_t value) {
	nl_put(b, type, &value, sizeof(value));
}
void nl_put_u32(struct nl_batch *b, uint16_t type, uint32_t value) {
	nl_put(b, type, &value, sizeof(value));
}
void nl_put_be32(struct nl_batch *b, uint16_t type, uint32_t value) {
	value = htobe32(value);
	nl_put(b, type, &value, sizeof(value));
}

size_t nl_nest_with(struct nl_batch *b, uint16_t type, const void *header, size_t size) {
	size_t at = b->size;
	nl_put(b, type | NLA_F_NESTED, header, size);
	return at;
}

size_t nl_nest(struct nl_batch *b, uint16_t type) {
	return nl_nest_with(b, type, NULL, 0);
}

void nl_nest_end(struct nl_batch *b, size_t at) {
	if (b->failed)
		return;
	if (b->size - at > UINT16_MAX) {
		b->failed = true;
		return;
	}
	((struct nlattr *)(b->data + at))->nla_len = (uint16_t)(b->size - at);
}

/* --- answers --- */

bool nl_next(const uint8_t **p, size_t *left, struct nl_attr *ret_attr) {
	struct nlattr a;
	if (*left < sizeof(a))
		return false;
	memcpy(&a, *p, sizeof(a));
	if (a.nla_len < sizeof(a) || a.nla_len > *left)
		return false;
	*ret_attr = (struct nl_attr){
		.type = a.nla_type & NLA_TYPE_MASK,
		.size = a.nla_len - NLA_HDRLEN,
		.data = *p + NLA_HDRLEN,
	};
	size_t step = MIN((size_t)NLA_ALIGN(a.nla_len), *left);
	*p += step;
	*left -= step;
	return true;
}

void nl_parse(const uint8_t *p, size_t left, struct nl_attr *ret_attrs, size_t max) {
	memset(ret_attrs, 0, (max + 1) * sizeof(*ret_attrs));
	struct nl_attr a;
	while (nl_next(&p, &left, &a))
		if (a.type <= max)
			ret_attrs[a.type] = a;
}

uint32_t nl_u32(const struct nl_attr *a, uint32_t absent) {
	if (!a->data || a->size < sizeof(absent))
		return absent;
	memcpy(&absent, a->data, sizeof(absent));
	return absent;
}

uint32_t nl_be32(const struct nl_attr *a, uint32_t absent) {
	return a->data && a->size >= sizeof(absent) ? be32toh(nl_u32(a, 0)) : absent;
}

const char *nl_text(const struct nl_attr *a) {
	return a->data && memchr(a->data, '\0', a->size) ? (const char *)a->data : NULL;
}

/* --- sending --- */

/* Numbers the messages of the batch from nl->seq on. */
static uint32_t batch_number(struct netlink *nl, struct nl_batch *b, uint16_t flags) {
	uint32_t first = nl->seq;
	for (size_t at = 0; at < b->size;) {
		struct nlmsghdr *h = (struct nlmsghdr *)(b->data + at);
		h->nlmsg_seq = nl->seq++;
		h->nlmsg_flags |= flags;
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	return first;
}

static int netlink_sendv(struct netlink *nl, const struct iovec *parts, size_t n) {
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct msghdr message = {
		.msg_name = &kernel,
		.msg_namelen = sizeof(kernel),
		.msg_iov = (struct iovec *)parts,
		.msg_iovlen = n,
	};
	for (;;) {
		if (sendmsg(nl->fd, &message, 0) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

/* One datagram from the kernel; others are dropped. -EAGAIN: there is none. */
static int netlink_receive(struct netlink *nl, void *data, size_t room, size_t *ret_size) {
	for (;;) {
		struct sockaddr_nl from;
		socklen_t from_size = sizeof(from);
		ssize_t n =
		    recvfrom(nl->fd, data, room, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&from, &from_size);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (from_size != sizeof(from) || from.nl_pid != 0)
			continue;
		if ((size_t)n > room)
			return -EMSGSIZE;
		*ret_size = (size_t)n;
		return 0;
	}
}

/* The next message of a datagram; NULL at its end or at garbage. */
static const struct nlmsghdr *message_next(const uint8_t **p, size_t *left) {
	const struct nlmsghdr *h = (const struct nlmsghdr *)*p;
	if (*left < sizeof(*h) || h->nlmsg_len < sizeof(*h) || h->nlmsg_len > *left)
		return NULL;
	size_t step = MIN((size_t)NLMSG_ALIGN(h->nlmsg_len), *left);
	*p += step;
	*left -= step;
	return h;
}

/* The errno in an NLMSG_ERROR (0: an ack), and the kernel's words for it. */
static int error_of(const struct nlmsghdr *h, struct nl_answer *answer) {
	struct nlmsgerr e;
	size_t size = h->nlmsg_len - NLMSG_HDRLEN;
	const uint8_t *body = (const uint8_t *)h + NLMSG_HDRLEN;
	if (size < sizeof(e))
		return -EPROTO;
	memcpy(&e, body, sizeof(e));
	if (e.error == 0 || !answer)
		return e.error;
	size_t skip = sizeof(e);
	if (!(h->nlmsg_flags & NLM_F_CAPPED) && e.msg.nlmsg_len >= sizeof(e.msg))
		skip += NLMSG_ALIGN(e.msg.nlmsg_len) - sizeof(e.msg);
	answer->message[0] = '\0';
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS) || skip > size)
		return e.error;
	struct nl_attr attrs[NLMSGERR_ATTR_MAX + 1];
	nl_parse(body + skip, size - skip, attrs, NLMSGERR_ATTR_MAX);
	const char *text = nl_text(&attrs[NLMSGERR_ATTR_MSG]);
	if (text) {
		size_t n = strnlen(text, sizeof(answer->message) - 1);
		memcpy(answer->message, text, n);
		answer->message[n] = '\0';
	}
	return e.error;
}

/* Reads acks until the message numbered first + n - 1 has one; that of the
 * first failed message is the result. */
static int collect_acks(struct netlink *nl, uint32_t first, unsigned n, bool all, struct nl_answer *answer) {
	_Alignas(8) uint8_t data[RECEIVE_SIZE];
	unsigned seen = 0;
	int result = 0;
	while (seen < n) {
		size_t left;
		int r = netlink_receive(nl, data, sizeof(data), &left);
		if (r == -EAGAIN)
			return result < 0 ? result : -EPROTO;
		if (r < 0)
			return r;
		const uint8_t *p = data;
		const struct nlmsghdr *h;
		while ((h = message_next(&p, &left))) {
			uint32_t index = h->nlmsg_seq - first;
			if (!all && index == UINT32_MAX && h->nlmsg_type == NLMSG_ERROR)
				index = 0; /* the transaction as a whole, by its frame */
			if (h->nlmsg_type != NLMSG_ERROR || index >= n)
				continue; /* of an earlier request that was given up */
			seen = all ? seen + 1 : index + 1;
			int e = error_of(h, result == 0 ? answer : NULL);
			if (e < 0 && result == 0) {
				result = e;
				if (answer)
					answer->failed = index;
			}
		}
	}
	return result;
}

int netlink_send(struct netlink *nl, struct nl_batch *b, struct nl_answer *ret_answer) {
	if (ret_answer)
		*ret_answer = (struct nl_answer){ 0 };
	if (b->failed)
		return -EMSGSIZE;
	uint32_t first = batch_number(nl, b, NLM_F_ACK);
	int r = netlink_sendv(nl, &(struct iovec){ b->data, b->size }, 1);
	return r < 0 ? r : collect_acks(nl, first, b->n_messages, true, ret_answer);
}

int netlink_query(struct netlink *nl, struct nl_batch *b, nl_message_fn fn, void *ctx) {
	_Alignas(8) uint8_t data[RECEIVE_SIZE];
	if (b->failed || b->n_messages != 1)
		return -EMSGSIZE;
	bool dump = (((struct nlmsghdr *)b->data)->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	/* Also a get is acked, so that both kinds have a clear end. */
	uint32_t seq = batch_number(nl, b, dump ? 0 : NLM_F_ACK);
	int r = netlink_sendv(nl, &(struct iovec){ b->data, b->size }, 1);
	if (r < 0)
		return r;
	int result = 0;
	for (;;) {
		size_t left;
		r = netlink_receive(nl, data, sizeof(data), &left);
		if (r < 0)
			return r == -EAGAIN ? -EPROTO : r;
		const uint8_t *p = data;
		const struct nlmsghdr *h;
		while ((h = message_next(&p, &left))) {
			if (h->nlmsg_seq != seq)
				continue;
			if (h->nlmsg_type == NLMSG_ERROR) {
				int e = error_of(h, NULL);
				return e < 0 ? e : result;
			}
			if (h->nlmsg_flags & NLM_F_DUMP_INTR)
				result = result < 0 ? result : -EINTR;
			if (h->nlmsg_type == NLMSG_DONE)
				return result;
			if (result < 0)
				continue;
			int e = fn(ctx, h->nlmsg_type, (const uint8_t *)h + NLMSG_HDRLEN, h->nlmsg_len - NLMSG_HDRLEN);
			result = e < 0 ? e : 0;
		}
	}
}

int netlink_transaction(struct netlink *nl, struct nl_batch *b, struct nl_answer *ret_answer) {
	struct frame {
		struct nlmsghdr h;
		struct nfgenmsg g;
	};
	if (ret_answer)
		*ret_answer = (struct nl_answer){ 0 };
	if (b->failed)
		return -EMSGSIZE;
	if (b->n_messages == 0)
		return 0;
	struct frame begin = { { sizeof(begin), NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, nl->seq++, 0 },
			       { AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES) } };
	uint32_t first = batch_number(nl, b, 0);
	/* Errors are always told; of the acks only the last one's is wanted: when
	 * it is there, every message was looked at. */
	((struct nlmsghdr *)(b->data + b->message))->nlmsg_flags |= NLM_F_ACK;
	struct frame end = begin;
	end.h.nlmsg_type = NFNL_MSG_BATCH_END;
	end.h.nlmsg_seq = nl->seq++;
	struct iovec parts[] = { { &begin, sizeof(begin) }, { b->data, b->size }, { &end, sizeof(end) } };
	int r = netlink_sendv(nl, parts, ARRAY_SIZE(parts));
	return r < 0 ? r : collect_acks(nl, first, b->n_messages, false, ret_answer);
}
