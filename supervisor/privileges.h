/*
 * The privilege table: one row per role, all that a process of that role may
 * do. Read privileges.c from its table on; `bulkheadd --print-privileges`
 * prints it as this machine resolves it. The skeleton's confine.c applies it.
 */
#pragma once

#include "supervisor/config.h"

#include <stdio.h>

/* Everything but the seccomp program. */
int privileges_resolve(enum role role, const struct config *c, struct boot_privileges *ret_privileges,
		       struct fault *fault) NODISCARD;
/* The seccomp program too. Leaves libseccomp's memory behind: meant for a
 * process that executes something else next. */
int privileges_compile(enum role role, const struct config *c, struct boot_privileges *ret_privileges,
		       struct fault *fault) NODISCARD;
/* The owner of the role's own folders. */
void privileges_owner(enum role role, const struct config *c, uid_t *ret_uid, gid_t *ret_gid);
/* Whether the configuration has a use for such a process. */
bool privileges_wanted(enum role role, const struct config *c);
/* Whether the two have a link: the star. */
bool privileges_peers(enum role a, enum role b);
int privileges_print(const struct config *c, FILE *to, struct fault *fault) NODISCARD;
