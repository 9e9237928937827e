/* What names in an archive mean inside of a layer. */
#pragma once

#include "base/macros.h"

/* Makes a name relative to the layer's root, in place: no leading slash, no
 * empty or "." part, ".." taken back; "" is the root. -EXDEV when it would
 * leave the root, -ENAMETOOLONG for a part of more than 255 bytes. */
int path_clean(char *path) NODISCARD;
/* The same, but ".." at the root stays there: how a symbolic link's target
 * means it. */
int path_clamp(char *path) NODISCARD;
/* The last part; its folder is what lies before, cut off by the caller. */
const char *path_last(const char *path);

enum path_kind {
	PATH_PLAIN,
	PATH_WHITEOUT, /* .wh.NAME: NAME of the layers below is gone */
	PATH_OPAQUE,   /* .wh..wh..opq: nothing of its folder in the layers below */
	PATH_IGNORED,  /* other marks of AUFS */
	PATH_BAD,      /* a whiteout of nothing, of "." or ".." */
};

/* Of a cleaned name's last part. */
enum path_kind path_kind(const char *last);
/* Of a cleaned path: AUFS's hard links are kept until the layer is done. */
#define PATH_AUFS_LINKS ".wh..wh.plnk"
#define PATH_WHITEOUT_PREFIX ".wh."
