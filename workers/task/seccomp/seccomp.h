/*
 * From what a container's Spec says about seccomp to the program that its
 * keeper installs. Programs are compiled once per distinct profile and kept.
 *
 *   Spec.Linux.Seccomp                       in full, as the runtime-spec has it
 *   Spec.Annotations["bulkhead.io/seccomp"]  "runtime/default", "unconfined",
 *                                            or "localhost/<file>"
 *   neither                                  no filter
 *
 * The default profile depends on the container's capabilities: what they allow
 * the filter doesn't forbid.
 */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"

#include <limits.h>
#include <linux/filter.h>
#include <stddef.h>

#define SECCOMP_ANNOTATION "bulkhead.io/seccomp"

struct seccomp_program {
	struct sock_filter *filter;
	size_t length;	/* instructions */
	uint32_t flags; /* SECCOMP_FILTER_FLAG_* */
};

struct arena;
struct seccomp_cache;

/* localhost_dir: where relative "localhost/" names are; copied. */
int seccomp_cache_new(const char *localhost_dir, struct seccomp_cache **ret_cache) NODISCARD;
void seccomp_cache_free(struct seccomp_cache *c);

/* Compiles the default profile as an ordinary container will ask for it. */
void seccomp_cache_warm(struct seccomp_cache *c);

/* 1 with the path of the host's file that the specification's profile is in, 0
 * when it is in none. */
int seccomp_profile_path(const struct seccomp_cache *c, const Grpc__Spec *spec, char ret_path[static PATH_MAX],
			 struct fault *fault);
/* NULL in *ret_program: no filter. Otherwise valid until the cache's next use.
 * file: what is in that file; NULL when there is none. */
int seccomp_program_for(struct seccomp_cache *c, const Grpc__Spec *spec, const void *file, size_t file_size,
			const struct seccomp_program **ret_program, struct fault *fault);
/* The same for an OCI runtime, which compiles it by itself: the message, from
 * the arena unless it's the specification's own; NULL: no filter. */
int seccomp_message_for(const Grpc__Spec *spec, const void *file, size_t file_size, struct arena *a,
			Grpc__LinuxSeccomp **ret_message, struct fault *fault);
