#include "workers/api/policy.h"

int policy_client(const struct boot_endpoint *e, const struct credentials *client, struct fault *fault) {
	if (endpoint_admits(e, client->uid))
		return 0;
	return fault_set(fault, FAULT_PERMISSION_DENIED, "uid %u may not use endpoint \"%s\" (see endpoint.%s.uids)",
			 client->uid, e->name, e->name);
}

/* A method that is a row needs what its row needs. The others say it themselves.
 * What says nothing is for everybody when it is answered in here, since it asks
 * nobody; else one that forgets to isn't. */
static enum link_access least_access(const struct grpc_method *m) {
	if (m->number)
		return msg_row_find(m->number)->access;
	if (m->access)
		return m->access;
	return m->answer || m->local ? ACCESS_NONE : ACCESS_FULL;
}

int policy_method(const struct boot_endpoint *e, const struct grpc_method *m, struct fault *fault) {
	if (least_access(m) <= (enum link_access)e->access)
		return 0;
	return fault_set(fault, FAULT_PERMISSION_DENIED, "endpoint \"%s\" %s: %s isn't served", e->name,
			 link_access_phrase((enum link_access)e->access), m->name);
}
