/* grpc.Health: whether the agent serves, and which API it has. A host that gets
 * no answer to Check takes its sandbox for dead, so Check asks nobody. */
#include "workers/api/agent/agent.h"

#include "base/version.h"
#include "kata/health.pb-c.h"

#define AGENT_API_VERSION "0.0.1"

static void on_check(struct grpc_call *c, const ProtobufCMessage *request) {
	Grpc__HealthCheckResponse reply = GRPC__HEALTH_CHECK_RESPONSE__INIT;
	reply.status = link_attached(grpc_call_server(c)->metadata)
			   ? GRPC__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
			   : GRPC__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
	grpc_reply(c, &reply.base);
}

static void on_version(struct grpc_call *c, const ProtobufCMessage *request) {
	Grpc__VersionCheckResponse reply = GRPC__VERSION_CHECK_RESPONSE__INIT;
	reply.grpc_version = (char *)(uintptr_t)AGENT_API_VERSION;
	reply.agent_version = (char *)(uintptr_t)BULKHEAD_VERSION;
	grpc_reply(c, &reply.base);
}

const struct grpc_method agent_health_methods[] = {
	{ .name = "Check", .answer = on_check },
	{ .name = "Version", .answer = on_version },
	{ 0 },
};
