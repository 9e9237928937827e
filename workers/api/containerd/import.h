/*
 * The images of an archive that the client sends, under the names that the
 * archive or the client gives them. All is held by a lease of the import's own
 * until the images hold it; when it fails the lease goes, and what it held.
 */
#pragma once

#include "workers/api/containerd/streams.h"

#include "containerd/transfer_types.pb-c.h"

struct ctd_import;

struct ctd_import_user {
	void (*told)(void *ctx, const char *event, const char *name); /* progress */
	void (*done)(void *ctx, const struct fault *fault);	      /* once, later; NULL: the images are there */
};

/* from and to live as long as the call. NULL: the fault says why not. */
struct ctd_import *ctd_import_begin(struct grpc_call *call, const Containerd__Types__Transfer__ImageImportStream *from,
				    const Containerd__Types__Transfer__ImageStore *to,
				    const struct ctd_import_user *user, void *ctx, struct fault *fault);
/* NULL does nothing. */
void ctd_import_free(struct ctd_import *x);
