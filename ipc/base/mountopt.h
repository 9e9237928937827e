/* The options of a mount as the OCI specification writes them, sorted into
 * what each goes to: attributes, propagation, or the file system itself. */
#pragma once

#include "base/fault.h"

#include <stdbool.h>

#define MOUNT_DATA_MAX 32

struct mount_options {
	bool bind, recursive;
	bool make_source;	       /* a folder that isn't there is made, as the CRI wants it */
	bool idmap;		       /* owners as the pod's user namespace maps them */
	uint64_t set, clear;	       /* MOUNT_ATTR_* of this mount */
	uint64_t tree_set, tree_clear; /* of it and all below it ("rro") */
	uint64_t propagation;	       /* MS_PRIVATE, ...; 0: not said */
	bool propagation_tree;
	const char *data[MOUNT_DATA_MAX]; /* "key=value" or "key", for fsconfig; the caller's strings */
	size_t n_data;
};

int mount_options_parse(char *const *options, size_t n, struct mount_options *ret_options, struct fault *fault);
/* The options that are taken; NULL after the last. What a file system takes itself isn't among them. */
const char *mount_option_name(size_t i);
