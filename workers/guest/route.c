/*
 * UpdateRoutes and ListRoutes: the main table. Routes with a gateway come after
 * those that lead to it. What is there stays, unless a route of the request
 * replaces it.
 */
#include "network.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

/* --- updating --- */

struct route {
	struct address destination, gateway, source;
	unsigned index;
};

static bool is_default(const Types__Route *r) {
	return !*r->dest || strcmp(r->dest, "0.0.0.0") == 0 || strcmp(r->dest, "::") == 0 ||
	       strcmp(r->dest, "default") == 0;
}

static int text_parse(const char *what, const char *text, struct address *ret_a, struct fault *fault) {
	if (*text && !address_parse(ret_a, text))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "its %s \"%s\" is no address", what, text);
	return 0;
}

static int route_parse(const Types__Route *q, struct route *ret_route, struct fault *fault) {
	struct route r = { 0 };
	int e = is_default(q) ? 0 : text_parse("destination", q->dest, &r.destination, fault);
	if (e == 0)
		e = text_parse("gateway", q->gateway, &r.gateway, fault);
	if (e == 0)
		e = text_parse("source", q->source, &r.source, fault);
	if (e < 0)
		return e;
	/* A default's family is its gateway's, or else as the request says. */
	if (r.destination.size == 0)
		r.destination.size = r.gateway.size ? r.gateway.size : q->family == TYPES__IPFAMILY__v6 ? 16 : 4;
	if ((r.gateway.size && r.gateway.size != r.destination.size) ||
	    (r.source.size && r.source.size != r.destination.size))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "its addresses are of two families");
	r.destination = address_network(&r.destination);
	*ret_route = r;
	return 0;
}

static void put_route(struct nl_batch *b, const struct route *r, const Types__Route *q) {
	struct rtmsg header = {
		.rtm_family = (uint8_t)address_family(&r->destination),
		.rtm_dst_len = r->destination.prefix,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = (uint8_t)q->scope,
		.rtm_type = RTN_UNICAST,
		.rtm_flags = q->flags,
	};
	nl_begin(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &header, sizeof(header));
	if (r->destination.prefix)
		nl_put(b, RTA_DST, r->destination.bytes, r->destination.size);
	if (r->gateway.size)
		nl_put(b, RTA_GATEWAY, r->gateway.bytes, r->gateway.size);
	if (r->source.size)
		nl_put(b, RTA_PREFSRC, r->source.bytes, r->source.size);
	nl_put_u32(b, RTA_OIF, r->index);
	if (q->mtu) {
		size_t metrics = nl_nest(b, RTA_METRICS);
		nl_put_u32(b, RTAX_MTU, q->mtu);
		nl_nest_end(b, metrics);
	}
}

static int route_set(struct netlink *nl, const Types__Route *q, struct fault *fault) {
	struct route r;
	struct rtnl_link link;
	struct nl_batch b;
	struct nl_answer answer;
	int e = route_parse(q, &r, fault);
	if (e == 0)
		e = link_named(nl, q->device, &link, fault);
	if (e < 0)
		return e;
	r.index = link.index;
	nl_reset(&b);
	put_route(&b, &r, q);
	e = netlink_send(nl, &b, &answer);
	if (e < 0 && e != -EEXIST)
		return fault_errno(fault, e, "set it%s%s", *answer.message ? ": " : "", answer.message);
	return 0;
}

static int routes_set(struct netlink *nl, const Grpc__Routes *q, bool gateway, struct fault *fault) {
	for (size_t i = 0; i < q->n_routes; i++) {
		const Types__Route *r = q->routes[i];
		if ((*r->gateway != '\0') != gateway)
			continue;
		int e = route_set(nl, r, fault);
		if (e < 0)
			return fault_prefix(fault, e, "route to \"%s\" by \"%s\" on \"%s\"", r->dest, r->gateway,
					    r->device);
	}
	return 0;
}

/* --- listing --- */

struct listing {
	struct work *work;
	struct netlink *nl; /* another one: the first is busy */
	Types__Route **list;
	size_t n, room;
};

static char *attribute_text(struct arena *arena, const struct nl_attr *a, unsigned prefix, bool with_prefix) {
	char text[ADDRESS_TEXT];
	struct address address;
	ProtobufCBinaryData bytes = { a->size, (uint8_t *)a->data };
	if (!a->data || !address_set(&address, &bytes, prefix, false))
		return (char *)protobuf_c_empty_string;
	address_text(&address, text);
	return with_prefix ? arena_printf(arena, "%s/%u", text, prefix) : arena_strdup(arena, text);
}

static uint32_t mtu_of(const struct nl_attr *metrics) {
	struct nl_attr m[RTAX_MTU + 1];
	if (!metrics->data)
		return 0;
	nl_parse(metrics->data, metrics->size, m, RTAX_MTU);
	return nl_u32(&m[RTAX_MTU], 0);
}

static int route_fill(struct listing *l, const struct rtmsg *header, const struct nl_attr *attrs, Types__Route *r) {
	struct arena *a = &l->work->arena;
	struct rtnl_link link;
	bool v4 = header->rtm_family == AF_INET;
	unsigned bits = v4 ? 32 : 128;
	if (rtnl_link_get_index(l->nl, nl_u32(&attrs[RTA_OIF], 0), &link) < 0)
		link.name[0] = '\0';
	r->device = arena_strdup(a, link.name);
	r->dest = attrs[RTA_DST].data ? attribute_text(a, &attrs[RTA_DST], header->rtm_dst_len, true)
				      : arena_strdup(a, v4 ? "0.0.0.0" : "::");
	r->gateway = attribute_text(a, &attrs[RTA_GATEWAY], bits, false);
	r->source = attribute_text(a, &attrs[RTA_PREFSRC], bits, false);
	r->scope = header->rtm_scope;
	r->family = v4 ? TYPES__IPFAMILY__v4 : TYPES__IPFAMILY__v6;
	r->flags = header->rtm_flags;
	r->mtu = mtu_of(&attrs[RTA_METRICS]);
	return r->device && r->dest && r->gateway && r->source ? 0 : -ENOMEM;
}

static int on_route(void *ctx, uint16_t type, const uint8_t *body, size_t size) {
	struct listing *l = ctx;
	struct rtmsg header;
	struct nl_attr attrs[RTA_TABLE + 1];
	if (type != RTM_NEWROUTE || size < sizeof(header))
		return -EPROTO;
	memcpy(&header, body, sizeof(header));
	nl_parse(body + NLMSG_ALIGN(sizeof(header)), size - sizeof(header), attrs, RTA_TABLE);
	if (nl_u32(&attrs[RTA_TABLE], header.rtm_table) != RT_TABLE_MAIN)
		return 0;
	Types__Route *r = ARENA_NEW(&l->work->arena, Types__Route, TYPES__ROUTE__INIT);
	if (!r || list_room((void ***)&l->list, l->n, &l->room, &l->work->arena) < 0)
		return -ENOMEM;
	l->list[l->n++] = r;
	return route_fill(l, &header, attrs, r);
}

static int family_list(struct listing *l, struct netlink *nl, int family) {
	struct nl_batch b;
	struct rtmsg header = { .rtm_family = (uint8_t)family };
	size_t before = l->n;
	int r = -EINTR;
	/* A table that changed meanwhile is read again. */
	for (int attempt = 0; r == -EINTR && attempt < 10; attempt++) {
		l->n = before;
		nl_reset(&b);
		nl_begin(&b, RTM_GETROUTE, NLM_F_DUMP, &header, sizeof(header));
		r = netlink_query(nl, &b, on_route, l);
	}
	return r;
}

int guest_routes_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	CLEANUP(netlink_close) struct netlink routes = NETLINK_NONE, links = NETLINK_NONE;
	Grpc__Routes *reply = ARENA_NEW(&w->arena, Grpc__Routes, GRPC__ROUTES__INIT);
	struct listing l = { .work = w, .nl = &links };
	if (!reply)
		return no_memory(fault);
	int r = netlink_route(&routes, fault);
	if (r == 0)
		r = netlink_route(&links, fault);
	if (r < 0)
		return r;
	r = family_list(&l, &routes, AF_INET);
	if (r == 0)
		r = family_list(&l, &routes, AF_INET6);
	if (r < 0)
		return fault_errno(fault, r, "list routes");
	reply->routes = l.list;
	reply->n_routes = l.n;
	w->reply = &reply->base;
	return 0;
}

int guest_routes_update_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__Routes *q = ((const Grpc__UpdateRoutesRequest *)request)->routes;
	CLEANUP(netlink_close) struct netlink nl = NETLINK_NONE;
	if (!q)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the request has no routes");
	int r = netlink_route(&nl, fault);
	if (r == 0)
		r = routes_set(&nl, q, false, fault);
	if (r == 0)
		r = routes_set(&nl, q, true, fault);
	return r < 0 ? r : guest_routes_run(w, request, fault);
}
