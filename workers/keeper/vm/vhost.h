/* What user-mode Linux and virtiofsd say to each other; see vhost.c. */
#pragma once

#include "loop/loop.h"

struct vhost;
/* Takes both descriptors: one that listens for the VMM, which connects once, and one
 * connected with virtiofsd, non-blocking. broken comes once, when what is said makes
 * no sense or can't be passed on; nothing is after it. */
int vhost_new(struct loop *loop, int front, int back, void (*broken)(void *ctx), void *ctx,
	      struct vhost **ret_vhost) NODISCARD;
void vhost_free(struct vhost *v);
