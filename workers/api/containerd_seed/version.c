/* containerd.v1.Version */
#include "workers/api/containerd_seed/ctd_seed.h"

#include "base/version.h"
#include "containerd_seed/version.pb-c.h"

static void version(struct grpc_call *c, const ProtobufCMessage *request) {
	Containerd__Seed__VersionResponse a = CONTAINERD__SEED__VERSION_RESPONSE__INIT;
	a.version = (char *)BULKHEAD_NAME " " BULKHEAD_VERSION;
	grpc_reply(c, &a.base);
}

const struct grpc_method ctd_seed_version_methods[] = {
	{ .name = "Version", .answer = version, .access = ACCESS_METRICS },
	{ 0 },
};
