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
