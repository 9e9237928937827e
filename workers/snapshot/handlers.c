/* What the metadata worker may ask of this one: from message to function. */
#include "workers/snapshot/state.h"

/* With the owners shifted; otherwise the same. */
void on_snapshot_mount_mapped(struct snapshot_worker *s, struct msg_request *r,
			      const Bulkhead__SnapshotMountRequest *m) {
	on_snapshot_mount(s, r, m);
}

#define TO_SNAPSHOT(name) HANDLER_DEFINE(struct snapshot_worker, name)
#include "msg/receivers.def"

const struct link_handler snapshot_handlers[] = {
#define TO_SNAPSHOT(name) HANDLER(name),
#include "msg/receivers.def"
	{ 0 },
};
