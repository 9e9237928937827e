/* Copies of single files, with everything that belongs to them. */
#pragma once

#include "base/macros.h"

#include <sys/stat.h>

/* Mode, owner, extended attributes and times of an open file or folder.
 * overlayfs's own marks stay behind. */
int copy_attributes(int from, int to, const struct stat *st) NODISCARD;
/* Makes to_dir/to_name like from_dir/from_name, which st describes and which is
 * no folder; -EEXIST when the name is taken. Shares blocks where the file system can. */
int copy_file(int from_dir, const char *from_name, const struct stat *st, int to_dir, const char *to_name) NODISCARD;
