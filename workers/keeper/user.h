/*
 * Who a process runs as: the numbers of Spec.process.user, or a name resolved
 * in /etc/passwd and /etc/group of the container's own root. Those files are
 * the image's, so they are size-capped, must be regular files, and a number
 * is strictly decimal and below 2^31: what doesn't fit is an error and never
 * looked up as a name, so that no overflow becomes uid 0.
 */
#pragma once

#include "base/fault.h"
#include "oci/oci.pb-c.h"

#include <stdbool.h>
#include <sys/types.h>

#define USER_GROUPS_MAX 256
#define USER_HOME_MAX 256

struct user_ids {
	uid_t uid;
	gid_t gid;
	gid_t groups[USER_GROUPS_MAX];
	size_t n_groups;
	char home[USER_HOME_MAX];
};

/* root is the container's root folder. strict: no groups but those that the
 * specification names, whatever the image's /etc/group says. The primary group
 * of a resolved name is among the groups, too; a numeric user's are as given. */
int user_resolve(int root, const Grpc__User *user, bool strict, struct user_ids *ret_ids, struct fault *fault);
/* 0 for a number in range, -ERANGE for digits that are out of range, -EINVAL
 * for what is no number. */
int user_parse_id(const char *text, size_t n, uint32_t *ret_id);
