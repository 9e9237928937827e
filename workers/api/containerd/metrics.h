/*
 * Tasks/Metrics, and a sandbox's: figures as the messages that containerd's
 * clients know, those of cgroup v1 or of cgroup v2, whichever the machine has.
 */
#pragma once

#include "workers/api/containerd/containerd.h"
#include "workers/api/figures.h"

extern const struct grpc_translator ctd_metrics;

/* NULL: out of memory. */
Containerd__Types__Metric *ctd_metric(struct grpc_translation *t, const Bulkhead__TaskStats *s, char *id);

/* --- between the files metrics*.c ------------------------------------------- */

/* These return NULL when out of memory. */
Google__Protobuf__Any *metric_pack(struct grpc_translation *t, const char *url, const ProtobufCMessage *m);
Google__Protobuf__Any *metrics_v1(struct grpc_translation *t, const Bulkhead__TaskStats *s);
Google__Protobuf__Any *metrics_v2(struct grpc_translation *t, const Bulkhead__TaskStats *s);
