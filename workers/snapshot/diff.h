/*
 * What a container has changed in its root, as a layer: the upper folder of its
 * overlay with whiteouts as ".wh." files.
 *
 * The container made this tree and may still be changing it: nothing of it is
 * followed or interpreted, names and bytes are only copied. What a layer has no
 * way to say is left out: sockets, names that begin with ".wh.", and extended
 * attributes of the file system's own ("trusted.").
 */
#pragma once

#include "base/fault.h"
#include "tar/write.h"

/* Without the two blocks at the end. From here on the process is in the jail of
 * those who pack (jail.h), with upper as its root: once it has seen which folders
 * overlayfs has marked as opaque, which takes the right to mount, it needs to do
 * nothing but read. */
int diff_write(struct tar_writer *w, int upper, struct fault *fault) NODISCARD;
