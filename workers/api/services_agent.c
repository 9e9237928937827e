/* The table of services of the agent in a guest, and all that it speaks. */
#include "kata/agent.pb-c.h"
#include "kata/health.pb-c.h"
#include "workers/api/agent/agent.h"
#include "workers/api/services.h"

const struct protocol *const protocols[PROTOCOL_COUNT] = {
	[PROTOCOL_TTRPC] = &protocol_ttrpc,
};

const struct grpc_service services[] = {
	{
	    .group = GROUP_AGENT,
	    .name = "grpc.AgentService",
	    .version = "v1",
	    .api = &grpc__agent_service__descriptor,
	    .methods = agent_service_methods,
	},
	{
	    .group = GROUP_AGENT,
	    .name = "grpc.Health",
	    .version = "v1",
	    .api = &grpc__health__descriptor,
	    .methods = agent_health_methods,
	},
	{ 0 },
};
