/*
 * What belongs to the images of an export: their targets, and what these lead to
 * for the platforms that the client wants. As images/archive of containerd,
 * Export, has it: all of that has to be here.
 */
#pragma once

#include "workers/api/containerd/export_archive.h"
#include "workers/api/grpc.h"

#include "containerd/transfer_types.pb-c.h"

struct ctd_export_walk;

/* from and to live as long as the call. done is called once, later: with the set,
 * which lives as long as the walk, or with a fault. NULL: the fault says why not. */
struct ctd_export_walk *
ctd_export_walk_begin(struct grpc_call *call, const Containerd__Types__Transfer__ImageStore *from,
		      const Containerd__Types__Transfer__ImageExportStream *to,
		      void (*done)(void *ctx, const struct export_set *set, const struct fault *fault), void *ctx,
		      struct fault *fault);
/* NULL does nothing. */
void ctd_export_walk_free(struct ctd_export_walk *x);
