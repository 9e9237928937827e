/* GetIPTables and SetIPTables, by the guest's own tools. What the kernel has is
 * theirs to say: the text goes through unread. */
#include "tool.h"

int guest_iptables_get_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	bool v6 = ((const Grpc__GetIPTablesRequest *)request)->is_ipv6;
	const char *const argv[] = { v6 ? "ip6tables-save" : "iptables-save", NULL };
	Grpc__GetIPTablesResponse *reply =
	    ARENA_NEW(&w->arena, Grpc__GetIPTablesResponse, GRPC__GET_IPTABLES_RESPONSE__INIT);
	if (!reply)
		return no_memory(fault);
	w->reply = &reply->base;
	return tool_run(w, argv, NULL, 0, &reply->data, fault);
}

int guest_iptables_set_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__SetIPTablesRequest *q = (const Grpc__SetIPTablesRequest *)request;
	const char *const argv[] = { q->is_ipv6 ? "ip6tables-restore" : "iptables-restore", "--wait", "5", NULL };
	Grpc__SetIPTablesResponse *reply =
	    ARENA_NEW(&w->arena, Grpc__SetIPTablesResponse, GRPC__SET_IPTABLES_RESPONSE__INIT);
	if (!reply)
		return no_memory(fault);
	w->reply = &reply->base;
	return tool_run(w, argv, q->data.data, q->data.len, &reply->data, fault);
}
