/* Owner, mode, extended attributes and time of one new file, in the order that
 * the kernel needs: a chown clears set-id bits and capabilities. */
#pragma once

#include "tar/tar.h"

/* Of an open regular file or folder. Without times: the caller sets them.
 * *skipped counts attributes that the file system refused. */
int attributes_set_open(int fd, const struct tar_entry *e, uint64_t *skipped) NODISCARD;
/* Of a link, device or FIFO by name, which was just made and isn't followed. */
int attributes_set_named(int dir, const char *name, const struct tar_entry *e) NODISCARD;
/* Whether a folder's default ACL is among the attributes; the value is e's. */
const struct tar_xattr *attributes_default_acl(const struct tar_entry *e);
