/*
 * What other workers may ask of this one: from message to function. Rows whose
 * answers differ in how they are cut up are one.
 */
#include "workers/metadata/handlers.h"

#include "workers/metadata/guest.h"

#define SAME(row, as)                                                                    \
	void row(struct metadata *m, struct msg_request *r, const ProtobufCMessage *q) { \
		as(m, r, q);                                                             \
	}
SAME(cri_stream_container_stats, cri_list_container_stats)
SAME(cri_stream_pod_sandbox_stats, cri_list_pod_sandbox_stats)
SAME(cri_stream_pod_sandbox_metrics, cri_list_pod_sandbox_metrics)
SAME(call_exec, session_exec)
/* What an agent does to its guest, too. */
SAME(guest_attach, guest_relay)
SAME(guest_detach, guest_relay)
SAME(guest_devices, guest_relay)
SAME(guest_setup, guest_relay)
SAME(guest_clear, guest_relay)
SAME(guest_ephemeral, guest_relay)
SAME(guest_refresh, guest_relay)
SAME(guest_volume_stats, guest_relay)
SAME(guest_interface, guest_relay)
SAME(guest_interfaces, guest_relay)
SAME(guest_routes_update, guest_relay)
SAME(guest_routes, guest_relay)
SAME(guest_neighbors, guest_relay)
SAME(guest_iptables_get, guest_relay)
SAME(guest_iptables_set, guest_relay)
SAME(guest_details, guest_relay)
SAME(guest_metrics, guest_relay)
SAME(guest_online, guest_relay)
SAME(guest_probe, guest_relay)
SAME(guest_copy, guest_relay)
SAME(guest_swap, guest_relay)
SAME(guest_swap_path, guest_relay)
SAME(guest_reseed, guest_relay)
SAME(guest_clock, guest_relay)
SAME(guest_diagnostics, guest_relay)

#define TO_METADATA(name)                                                                           \
	static void handle_##name(void *worker, struct msg_request *r, const ProtobufCMessage *q) { \
		name(worker, r, q);                                                                 \
	}
#include "msg/receivers.def"

const struct link_handler metadata_handlers[] = {
#define TO_METADATA(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};
