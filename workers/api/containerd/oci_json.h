/*
 * The OCI runtime specification as containerd's clients send it, JSON inside of
 * an Any, as the message that the daemon works with (proto/oci). What the
 * message has no field for is either taken along as an annotation of ours
 * (linux.resources.unified), refused because it would be missed (hooks that
 * run between create and start), or passed over.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "oci/oci.pb-c.h"

#include <stdbool.h>

#define OCI_JSON_MAX (1u << 20)

/* In the arena; the sentence says where in the document it is wrong. */
int oci_json_spec(struct arena *a, const void *json, size_t size, Grpc__Spec **ret_spec, struct fault *fault) NODISCARD;
int oci_json_process(struct arena *a, const void *json, size_t size, Grpc__Process **ret_process,
		     struct fault *fault) NODISCARD;
/* runtime-spec's LinuxResources, as Tasks/Update sends them. */
int oci_json_resources(struct arena *a, const void *json, size_t size, Grpc__LinuxResources **ret_resources,
		       struct fault *fault) NODISCARD;
