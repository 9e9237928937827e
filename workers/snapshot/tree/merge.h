/* Lays a layer in overlayfs's form over a plain tree: what overlayfs shows of
 * both, as files. For machines without overlayfs. Blocks. */
#pragma once

#include "base/macros.h"

/* trash: a folder of the same file system, for trash_put. */
int merge_layer(int layer, int tree, int trash) NODISCARD;
