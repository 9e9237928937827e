/*
 * What a container's processes may do, and where they see what, as one digest:
 * user, capabilities, filters, labels, limits of processes, namespaces, masked
 * paths, devices, and the mounts without what they show. criu gives restored
 * processes what they had, so who asks for a restore must ask for just that.
 * Not in it: what is the control group's, and what the program itself is.
 */
#pragma once

#include "base/arena.h"
#include "base/macros.h"
#include "base/sha256.h"
#include "oci/oci.pb-c.h"

/* -ENOMEM. */
int privileges_digest(struct arena *a, const Grpc__Spec *spec, char ret_digest[DIGEST_SIZE]) NODISCARD;
