/*
 * From what the CRI asks for and what the image says to the one message that
 * tells what to run: the OCI runtime spec (proto/oci). Pure: reads its input,
 * allocates in the arena, touches nothing.
 *
 * What the host decides (mounts, devices, capabilities, namespaces) comes from
 * the request alone. The image gives command, environment, working folder,
 * user and stop signal, and those are data to the container only.
 *
 * Namespaces: a type that is named is the container's own; one that isn't is
 * the pod's, which is the keeper's. (pid: TaskCreateRequest.pid_mode says
 * which of the three it is.)
 *
 * Annotations carry what the OCI form has no place for; the client's own, of
 * which none may begin with "bulkhead.io/", don't go into the spec.
 *
 *   bulkhead.io/seccomp       "runtime/default", "unconfined" or
 *                             "localhost/<path>": expanded by the task worker
 *   bulkhead.io/privileged    "true": every device of the host
 *   bulkhead.io/device/<n>    "<host path>\n<path in the container>\n<rwm>"
 *   bulkhead.io/cdi/<n>       "vendor/class=name": expanded by the task worker
 *   bulkhead.io/unified/<key> a cgroup v2 file and what goes into it
 *   bulkhead.io/groups        "strict": the image's /etc/group adds none
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/record.pb-c.h"

#define SPEC_SECCOMP "bulkhead.io/seccomp"
#define SPEC_PRIVILEGED "bulkhead.io/privileged"
#define SPEC_DEVICE "bulkhead.io/device/"
#define SPEC_UNIFIED "bulkhead.io/unified/"
#define SPEC_CDI "bulkhead.io/cdi/"
#define SPEC_GROUPS "bulkhead.io/groups"

struct spec_input {
	const Bulkhead__SandboxRecord *sandbox;
	const Bulkhead__ContainerRecord *container; /* with image_config */
	const char *pods_dir;			    /* <run_root>/pods: <id>/hosts and so on */
	const char *hostname;			    /* the host's, for HOSTNAME where the pod has none */
};

/* 0 or a negative errno with the sentence. Validates everything it uses. */
int spec_build(struct arena *a, const struct spec_input *in, Grpc__Spec **ret_spec, struct fault *fault) NODISCARD;

/* The limits alone, for what runs already. */
int spec_resources_of(struct arena *a, const Runtime__V1__LinuxContainerResources *q, Grpc__LinuxResources **ret,
		      struct fault *fault) NODISCARD;

/* The signal that StopContainer sends first; SIGTERM when nobody says. */
unsigned spec_stop_signal(const Bulkhead__ContainerRecord *c);
/* Log file, absolute; NULL when the container has none, or when out of memory. */
char *spec_log_path(struct arena *a, const Bulkhead__SandboxRecord *s, const Bulkhead__ContainerRecord *c);
