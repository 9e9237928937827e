/*
 * One function per row of messages.def that the API worker calls. Each answers
 * the request, now or later, exactly once.
 */
#pragma once

#include "workers/metadata/metadata.h"

#define CRI_HANDLER(name) void name(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request)

/* sandbox_run.c, sandbox_stop.c */
CRI_HANDLER(cri_run_pod_sandbox);
CRI_HANDLER(cri_stop_pod_sandbox);
CRI_HANDLER(cri_remove_pod_sandbox);
/* container_*.c, exec.c */
CRI_HANDLER(cri_create_container);
CRI_HANDLER(cri_start_container);
CRI_HANDLER(cri_stop_container);
CRI_HANDLER(cri_remove_container);
CRI_HANDLER(cri_exec_sync);
CRI_HANDLER(cri_reopen_container_log);
/* checkpoint.c */
CRI_HANDLER(cri_checkpoint_container);
/* stream.c */
CRI_HANDLER(cri_exec);
CRI_HANDLER(cri_attach);
CRI_HANDLER(cri_port_forward);
CRI_HANDLER(session_exec);
CRI_HANDLER(session_exec_wait);
CRI_HANDLER(call_exec_wait);
CRI_HANDLER(session_attach);
CRI_HANDLER(session_port);
/* list.c */
CRI_HANDLER(cri_list_pod_sandbox);
CRI_HANDLER(cri_list_containers);
CRI_HANDLER(cri_stream_pod_sandboxes);
CRI_HANDLER(cri_stream_containers);
CRI_HANDLER(cri_pod_sandbox_status);
CRI_HANDLER(cri_container_status);
/* stats.c, metrics.c; the lists are their own streams too */
CRI_HANDLER(cri_container_stats);
CRI_HANDLER(cri_list_container_stats);
CRI_HANDLER(cri_pod_sandbox_stats);
CRI_HANDLER(cri_list_pod_sandbox_stats);
CRI_HANDLER(cri_list_metric_descriptors);
CRI_HANDLER(cri_list_pod_sandbox_metrics);
/* update.c */
CRI_HANDLER(cri_update_container_resources);
CRI_HANDLER(cri_update_pod_sandbox_resources);
/* subscribe.c */
CRI_HANDLER(events);
/* runtime.c */
CRI_HANDLER(cri_status);
CRI_HANDLER(cri_runtime_config);
CRI_HANDLER(cri_update_runtime_config);
CRI_HANDLER(admin_inspect);
/* image.c, pull_request.c */
CRI_HANDLER(cri_list_images);
CRI_HANDLER(cri_stream_images);
CRI_HANDLER(cri_image_status);
CRI_HANDLER(cri_remove_image);
CRI_HANDLER(cri_image_fs_info);
CRI_HANDLER(cri_pull_image);
/* object/snapshot_*.c, object/diff_*.c */
CRI_HANDLER(snapshot_make);
CRI_HANDLER(snapshot_show);
CRI_HANDLER(snapshot_seal);
CRI_HANDLER(snapshot_count);
CRI_HANDLER(diff_apply);
CRI_HANDLER(diff_make);
/* object/requests.c */
CRI_HANDLER(object_get);
CRI_HANDLER(object_list);
CRI_HANDLER(object_create);
CRI_HANDLER(object_update);
CRI_HANDLER(object_delete);
/* object/lease.c, object/ingest.c */
CRI_HANDLER(lease_change);
CRI_HANDLER(content_open);
CRI_HANDLER(ingest_open);
CRI_HANDLER(ingest_sync);
CRI_HANDLER(ingest_commit);
CRI_HANDLER(ingest_list);
CRI_HANDLER(ingest_abort);
/* server.c */
CRI_HANDLER(server_info);
/* object/bus.c */
CRI_HANDLER(bus_follow);
CRI_HANDLER(bus_publish);
/* csandbox/ */
CRI_HANDLER(csandbox_create);
CRI_HANDLER(csandbox_start);
CRI_HANDLER(csandbox_stop);
CRI_HANDLER(csandbox_wait);
CRI_HANDLER(csandbox_get);
CRI_HANDLER(csandbox_freeze);
CRI_HANDLER(csandbox_metrics);
CRI_HANDLER(csandbox_update);
/* ctask/ */
CRI_HANDLER(ctask_create);
CRI_HANDLER(ctask_start);
CRI_HANDLER(ctask_delete);
CRI_HANDLER(ctask_get);
CRI_HANDLER(ctask_list);
CRI_HANDLER(ctask_wait);
CRI_HANDLER(ctask_kill);
CRI_HANDLER(ctask_exec);
CRI_HANDLER(ctask_spawn);
CRI_HANDLER(ctask_resize);
CRI_HANDLER(ctask_close_stdin);
CRI_HANDLER(ctask_freeze);
CRI_HANDLER(ctask_pids);
CRI_HANDLER(ctask_update);
CRI_HANDLER(ctask_metrics);
/* pull_request.c */
CRI_HANDLER(admin_pull);
CRI_HANDLER(image_pull);
