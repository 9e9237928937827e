#include "workers/api/services.h"

#include "containerd/containers.pb-c.h"
#include "containerd/content.pb-c.h"
#include "containerd/diff.pb-c.h"
#include "containerd/events.pb-c.h"
#include "containerd/images.pb-c.h"
#include "containerd/introspection.pb-c.h"
#include "containerd/leases.pb-c.h"
#include "containerd/namespaces.pb-c.h"
#include "containerd/streaming.pb-c.h"
#include "containerd/transfer.pb-c.h"
#include "containerd/sandbox.pb-c.h"
#include "containerd/snapshots.pb-c.h"
#include "containerd/tasks.pb-c.h"
#include "containerd/version.pb-c.h"
#include "containerd_seed/containers.pb-c.h"
#include "containerd_seed/content.pb-c.h"
#include "containerd_seed/diff.pb-c.h"
#include "containerd_seed/execution.pb-c.h"
#include "containerd_seed/images.pb-c.h"
#include "containerd_seed/sandbox.pb-c.h"
#include "containerd_seed/snapshot.pb-c.h"
#include "containerd_seed/version.pb-c.h"
#include "health/health.pb-c.h"
#include "kata/agent.pb-c.h"
#include "kata/health.pb-c.h"
#include "kata/hypervisor.pb-c.h"
#include "msg/typed.h"
#include "workers/api/agent/agent.h"
#include "workers/api/containerd/containerd.h"
#include "workers/api/containerd_seed/ctd_seed.h"
#include "workers/api/cri/cri.h"
#include "workers/api/cri_seed/seed.h"
#include "workers/api/health.h"
#include "workers/api/hypervisor/hypervisor.h"

static const struct grpc_method admin_methods[] = {
	{ .name = "Pull", .number = MSG_admin_pull, .changes = true, .latest = true },
	{ .name = "Inspect", .number = MSG_admin_inspect },
	{ 0 },
};

const struct protocol *const protocols[PROTOCOL_COUNT] = {
	[PROTOCOL_GRPC] = &protocol_grpc,
	[PROTOCOL_TTRPC] = &protocol_ttrpc,
};

/* v1alpha2 is v1 under its older name: the same bytes on the wire. */
const struct grpc_service services[] = {
	{
	    .group = GROUP_CRI,
	    .name = "runtime.v1.RuntimeService",
	    .version = "v1",
	    .api = &runtime__v1__runtime_service__descriptor,
	    .methods = cri_runtime_methods,
	},
	{
	    .group = GROUP_CRI,
	    .name = "runtime.v1.ImageService",
	    .version = "v1",
	    .api = &runtime__v1__image_service__descriptor,
	    .methods = cri_image_methods,
	},
	{
	    .group = GROUP_CRI_V1ALPHA2,
	    .name = "runtime.v1alpha2.RuntimeService",
	    .version = "v1alpha2",
	    .api = &runtime__v1__runtime_service__descriptor,
	    .methods = cri_runtime_methods,
	},
	{
	    .group = GROUP_CRI_V1ALPHA2,
	    .name = "runtime.v1alpha2.ImageService",
	    .version = "v1alpha2",
	    .api = &runtime__v1__image_service__descriptor,
	    .methods = cri_image_methods,
	},
	{
	    .group = GROUP_CRI_SEED,
	    .name = "runtime.RuntimeService",
	    .version = "v1alpha1",
	    .api = &runtime__runtime_service__descriptor,
	    .methods = seed_runtime_methods,
	},
	{
	    .group = GROUP_CRI_SEED,
	    .name = "runtime.ImageService",
	    .version = "v1alpha1",
	    .api = &runtime__image_service__descriptor,
	    .methods = seed_image_methods,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.containers.v1.Containers",
	    .version = "v1",
	    .api = &containerd__services__containers__v1__containers__descriptor,
	    .methods = ctd_containers_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.content.v1.Content",
	    .version = "v1",
	    .api = &containerd__services__content__v1__content__descriptor,
	    .methods = ctd_content_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.transfer.v1.Transfer",
	    .version = "v1",
	    .api = &containerd__services__transfer__v1__transfer__descriptor,
	    .methods = ctd_transfer_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.streaming.v1.Streaming",
	    .version = "v1",
	    .api = &containerd__services__streaming__v1__streaming__descriptor,
	    .methods = ctd_streaming_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.diff.v1.Diff",
	    .version = "v1",
	    .api = &containerd__services__diff__v1__diff__descriptor,
	    .methods = ctd_diff_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.images.v1.Images",
	    .version = "v1",
	    .api = &containerd__services__images__v1__images__descriptor,
	    .methods = ctd_images_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.leases.v1.Leases",
	    .version = "v1",
	    .api = &containerd__services__leases__v1__leases__descriptor,
	    .methods = ctd_leases_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.namespaces.v1.Namespaces",
	    .version = "v1",
	    .api = &containerd__services__namespaces__v1__namespaces__descriptor,
	    .methods = ctd_namespaces_methods,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.tasks.v1.Tasks",
	    .version = "v1",
	    .api = &containerd__services__tasks__v1__tasks__descriptor,
	    .methods = ctd_tasks_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.snapshots.v1.Snapshots",
	    .version = "v1",
	    .api = &containerd__services__snapshots__v1__snapshots__descriptor,
	    .methods = ctd_snapshots_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.version.v1.Version",
	    .version = "v1",
	    .api = &containerd__services__version__v1__version__descriptor,
	    .methods = ctd_version_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.introspection.v1.Introspection",
	    .version = "v1",
	    .api = &containerd__services__introspection__v1__introspection__descriptor,
	    .methods = ctd_introspection_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.events.v1.Events",
	    .version = "v1",
	    .api = &containerd__services__events__v1__events__descriptor,
	    .methods = ctd_events_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.sandbox.v1.Store",
	    .version = "v1",
	    .api = &containerd__services__sandbox__v1__store__descriptor,
	    .methods = ctd_sandbox_store_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD,
	    .name = "containerd.services.sandbox.v1.Controller",
	    .version = "v1",
	    .api = &containerd__services__sandbox__v1__controller__descriptor,
	    .methods = ctd_sandbox_controller_methods,
	    .headers = ctd_headers,
	},
	/* The same path: what its first form has beside today's. */
	{
	    .group = GROUP_SANDBOX_SEED,
	    .name = "containerd.services.sandbox.v1.Controller",
	    .version = "v1",
	    .api = &containerd__seed__sandbox__controller__descriptor,
	    .methods = ctd_seed_sandbox_methods,
	    .headers = ctd_headers,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.Containers",
	    .version = "v1",
	    .api = &containerd__seed__containers__descriptor,
	    .methods = ctd_seed_containers_methods,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.services.execution.Tasks",
	    .version = "v1",
	    .api = &containerd__seed__execution__tasks__descriptor,
	    .methods = ctd_seed_tasks_methods,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.Content",
	    .version = "v1",
	    .api = &containerd__seed__content__descriptor,
	    .methods = ctd_seed_content_methods,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.Diff",
	    .version = "v1",
	    .api = &containerd__seed__diff__descriptor,
	    .methods = ctd_seed_diff_methods,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.Images",
	    .version = "v1",
	    .api = &containerd__seed__images__descriptor,
	    .methods = ctd_seed_images_methods,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.Version",
	    .version = "v1",
	    .api = &containerd__seed__version__descriptor,
	    .methods = ctd_seed_version_methods,
	},
	{
	    .group = GROUP_CONTAINERD_SEED,
	    .name = "containerd.v1.snapshot.Snapshot",
	    .version = "v1",
	    .api = &containerd__seed__snapshot__snapshot__descriptor,
	    .methods = ctd_seed_snapshot_methods,
	},
	{
	    .group = GROUP_ADMIN,
	    .name = "bulkhead.v1.Admin",
	    .version = "v1",
	    .api = &bulkhead__v1__admin__descriptor,
	    .methods = admin_methods,
	},
	{
	    .group = GROUP_HEALTH,
	    .name = "grpc.health.v1.Health",
	    .version = "v1",
	    .api = &grpc__health__v1__health__descriptor,
	    .methods = health_methods,
	},
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
	{
	    .group = GROUP_HYPERVISOR,
	    .name = "hypervisor.Hypervisor",
	    .version = "v1",
	    .api = &hypervisor__hypervisor__descriptor,
	    .methods = hypervisor_methods,
	},
	{ 0 },
};
