/* What a push consists of, out of the store: what others name comes before what
 * names them, and the target is the last. */
#pragma once

#include "content.h"

struct push_item {
	Bulkhead__PushEvent__Blob event;
	bool document; /* an index or a manifest */
};

struct push_plan {
	struct push_item *items; /* in the arena, as all of it */
	size_t n;
};

/* All of it is in the store, or the fault says what isn't. */
int push_plan_make(struct content *c, struct arena *a, const Bulkhead__Descriptor *target, struct push_plan *ret_plan,
		   struct fault *fault);
