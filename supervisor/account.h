/* Users and groups by name, from the files themselves: what else the name
 * service would ask may be slow, away, or code that doesn't belong into this
 * process. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/* A name that /etc/passwd has, with its group; false and nothing written else. */
bool account_user(const char *name, uid_t *ret_uid, gid_t *ret_gid);
/* A name of /etc/passwd, or of /etc/group, or a number. A machine without the
 * files has root all the same. */
bool account_uid(const char *text, uid_t *ret_uid);
bool account_gid(const char *text, gid_t *ret_gid);
