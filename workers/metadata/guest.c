#include "workers/metadata/guest.h"

#include "workers/metadata/relay.h"

/* The untyped call, as the types are those of the request's own row (see
 * tests/unit/test_metadata_guest.c). */
void guest_relay(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request) {
	if (m->config->mode != BOOT_AGENT) {
		msg_failf(r, FAULT_UNIMPLEMENTED,
			  "this daemon is no guest's agent: \"mode = agent\" in its configuration makes it one");
		return;
	}
	struct relay *x = relay_new(r, 0);
	if (x)
		x->call =
		    msg_send(m->guest, r->row->number + GUEST_RELAY, &r->context, request, NULL, 0, relay_done, x);
}
