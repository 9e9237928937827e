#include "workers/api/cri/cri.h"

#include "base/version.h"
#include "msg/typed.h"

/* kubelet compares the first with its own constant and parses the third. It
 * asks this before all else and often, so no other worker is bothered. */
static void on_version(struct grpc_call *c, const ProtobufCMessage *request) {
	Runtime__V1__VersionResponse reply = RUNTIME__V1__VERSION_RESPONSE__INIT;
	reply.version = (char *)"0.1.0"; /* of the kubelet's runtime API, never ours */
	reply.runtime_name = (char *)BULKHEAD_NAME;
	reply.runtime_version = (char *)BULKHEAD_VERSION;
	reply.runtime_api_version = (char *)grpc_call_service(c)->version;
	grpc_reply(c, &reply.base);
}

const struct grpc_method cri_runtime_methods[] = {
	{ .name = "Version", .answer = on_version },
	{ .name = "Status", .number = MSG_cri_status },
	{ .name = "RuntimeConfig", .number = MSG_cri_runtime_config },
	{ .name = "UpdateRuntimeConfig", .number = MSG_cri_update_runtime_config, .changes = true },
	{ .name = "RunPodSandbox", .number = MSG_cri_run_pod_sandbox, .changes = true },
	{ .name = "StopPodSandbox", .number = MSG_cri_stop_pod_sandbox, .changes = true },
	{ .name = "RemovePodSandbox", .number = MSG_cri_remove_pod_sandbox, .changes = true },
	{ .name = "PodSandboxStatus", .number = MSG_cri_pod_sandbox_status },
	{ .name = "ListPodSandbox", .number = MSG_cri_list_pod_sandbox },
	{ .name = "CreateContainer", .number = MSG_cri_create_container, .changes = true },
	{ .name = "StartContainer", .number = MSG_cri_start_container, .changes = true },
	{ .name = "StopContainer", .number = MSG_cri_stop_container, .changes = true },
	{ .name = "RemoveContainer", .number = MSG_cri_remove_container, .changes = true },
	{ .name = "ListContainers", .number = MSG_cri_list_containers },
	{ .name = "ContainerStatus", .number = MSG_cri_container_status },
	{ .name = "ReopenContainerLog", .number = MSG_cri_reopen_container_log, .changes = true },
	{ .name = "ExecSync", .number = MSG_cri_exec_sync, .changes = true },
	{ .name = "Exec", .number = MSG_cri_exec, .changes = true },
	{ .name = "Attach", .number = MSG_cri_attach, .changes = true },
	{ .name = "PortForward", .number = MSG_cri_port_forward, .changes = true },
	{ .name = "CheckpointContainer", .number = MSG_cri_checkpoint_container, .changes = true },
	{ .name = "CheckpointPod", .number = MSG_cri_checkpoint_pod, .changes = true },
	{ .name = "RestorePod", .number = MSG_cri_restore_pod, .changes = true },
	{ .name = "UpdateContainerResources", .number = MSG_cri_update_container_resources, .changes = true },
	{ .name = "UpdatePodSandboxResources", .number = MSG_cri_update_pod_sandbox_resources, .changes = true },
	{ .name = "PodSandboxStats", .number = MSG_cri_pod_sandbox_stats },
	{ .name = "ListPodSandboxStats", .number = MSG_cri_list_pod_sandbox_stats },
	{ .name = "ListMetricDescriptors", .number = MSG_cri_list_metric_descriptors },
	{ .name = "ListPodSandboxMetrics", .number = MSG_cri_list_pod_sandbox_metrics },
	{ .name = "GetContainerEvents", .number = MSG_events, .translator = &cri_events },
	{ .name = "StreamPodSandboxes", .number = MSG_cri_stream_pod_sandboxes, .list = true },
	{ .name = "StreamContainers", .number = MSG_cri_stream_containers, .list = true },
	{ .name = "StreamContainerStats", .number = MSG_cri_stream_container_stats, .list = true },
	{ .name = "StreamPodSandboxStats", .number = MSG_cri_stream_pod_sandbox_stats, .list = true },
	{ .name = "StreamPodSandboxMetrics", .number = MSG_cri_stream_pod_sandbox_metrics, .list = true },
	{ .name = "ContainerStats", .number = MSG_cri_container_stats },
	{ .name = "ListContainerStats", .number = MSG_cri_list_container_stats },
	{ 0 },
};

const struct grpc_method cri_image_methods[] = {
	{ .name = "ListImages", .number = MSG_cri_list_images },
	{ .name = "StreamImages", .number = MSG_cri_stream_images, .list = true },
	{ .name = "ImageStatus", .number = MSG_cri_image_status },
	{ .name = "PullImage", .number = MSG_cri_pull_image, .changes = true },
	{ .name = "RemoveImage", .number = MSG_cri_remove_image, .changes = true },
	{ .name = "ImageFsInfo", .number = MSG_cri_image_fs_info },
	{ 0 },
};
