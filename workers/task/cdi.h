/*
 * CDI devices (Container Device Interface): what the host's vendors say, in
 * JSON files below a few folders, that a container needs for "vendor/class=name".
 * The files come from a keeper; their edits become parts of the specification.
 *
 *   Spec.Annotations["bulkhead.io/cdi/<n>"]   the name of a device
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/keeper.pb-c.h"

#include <stdbool.h>

/* Where such files are; a later folder's word counts. */
extern char *cdi_folders[];
#define CDI_FOLDERS 2
#define CDI_SUFFIX ".json"

bool cdi_wanted(const Grpc__Spec *spec);
/* A copy of what changes, in the arena. A device that no file knows is an error
 * that names it, and so is an edit that can't be made. */
int cdi_apply(struct arena *a, const Grpc__Spec *spec, Bulkhead__HostFile *const *files, size_t n_files,
	      const Grpc__Spec **ret_spec, struct fault *fault);
