/* image_resolve: from a name to an image's documents. */
#pragma once

#include "worker.h"

struct resolve;
/* Ends it with an error; for image_worker_abandon. */
void resolve_abandon(struct resolve *r, const char *why);
struct resolve *resolve_of(struct list *node);
