/*
 * Executes one CNI plugin: a program in one of the bin_dirs, with its
 * parameters in the environment, its configuration on stdin and its answer on
 * stdout. It runs in the host's network namespace and is bounded in time and in
 * output; a plugin that overstays is killed with all that it started.
 */
#pragma once

#include "base/fault.h"

#include <stddef.h>
#include <stdint.h>

struct plugin_call {
	const char *command; /* "ADD" or "DEL" */
	const char *type;    /* its name; a plain file name */
	char *const *bin_dirs;
	size_t n_bin_dirs;
	const char *container_id, *netns, *ifname, *args;
	const char *config; /* JSON */
	int host_netns;
	int64_t timeout_ns;
};

/* [A-Za-z0-9][A-Za-z0-9_.-]*, at most 64 characters: never a path. */
int plugin_name_check(const char *type, struct fault *fault);

/* *ret_output is what it printed, NUL-terminated, the caller's to free. A
 * plugin that fails gives a sentence with its own words. */
int plugin_execute(const struct plugin_call *call, char **ret_output, struct fault *fault);
