/* image_resolve: from a name to an image's documents. */
#pragma once

#include "worker.h"

/* Answers the request, now or later. */
void resolve_start(struct image_worker *w, struct msg_request *request, const Bulkhead__ImageResolveRequest *m);
struct resolve;
/* Ends it with an error; for image_worker_abandon. */
void resolve_abandon(struct resolve *r, const char *why);
struct resolve *resolve_of(struct list *node);
