/*
 * Images as a tar archive of an OCI image layout, into a stream of the
 * client's, for the platforms that it names, this machine's, or all; a
 * manifest.json for docker is added unless that isn't wanted.
 */
#pragma once

#include "workers/api/containerd/streams.h"

#include "containerd/transfer_types.pb-c.h"

struct ctd_export;

/* from and to live as long as the call. done is called once, later; fault NULL:
 * all is sent. NULL: the fault says why not. */
struct ctd_export *ctd_export_begin(struct grpc_call *call, const Containerd__Types__Transfer__ImageStore *from,
				    const Containerd__Types__Transfer__ImageExportStream *to,
				    void (*done)(void *ctx, const struct fault *fault), void *ctx, struct fault *fault);
/* NULL does nothing. */
void ctd_export_free(struct ctd_export *x);
