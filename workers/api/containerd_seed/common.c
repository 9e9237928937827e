#include "workers/api/containerd_seed/ctd_seed.h"

Grpc__Mount **ctd_seed_mounts(struct grpc_translation *t, Containerd__Seed__Types__Mount *const *from, size_t n) {
	Grpc__Mount **to = arena_alloc(t->arena, (n + 1) * sizeof(*to));
	for (size_t i = 0; to && i < n; i++) {
		if (!(to[i] = ARENA_NEW(t->arena, Grpc__Mount, GRPC__MOUNT__INIT)))
			return NULL;
		to[i]->type = from[i]->type;
		to[i]->source = from[i]->source;
		to[i]->destination = from[i]->target; /* below the root */
		to[i]->options = from[i]->options;
		to[i]->n_options = from[i]->n_options;
	}
	return to;
}

Bulkhead__Descriptor *ctd_seed_descriptor(struct grpc_translation *t, const Containerd__Seed__Types__Descriptor *from) {
	Bulkhead__Descriptor *to = from ? ARENA_NEW(t->arena, Bulkhead__Descriptor, BULKHEAD__DESCRIPTOR__INIT) : NULL;
	if (to) {
		to->media_type = from->media_type;
		to->digest = from->digest;
		to->size = from->size > 0 ? (uint64_t)from->size : 0;
	}
	return to;
}

Containerd__Seed__Types__Descriptor *ctd_seed_descriptor_back(struct grpc_translation *t,
							      const Bulkhead__Descriptor *from) {
	Containerd__Seed__Types__Descriptor *to =
	    from ? ARENA_NEW(t->arena, Containerd__Seed__Types__Descriptor, CONTAINERD__SEED__TYPES__DESCRIPTOR__INIT)
		 : NULL;
	if (to) {
		to->media_type = from->media_type;
		to->digest = from->digest;
		to->size = (int64_t)from->size;
	}
	return to;
}
