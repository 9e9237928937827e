#include "workers/api/containerd_seed/ctd_seed.h"

Grpc__Mount **ctd_seed_mounts(struct grpc_translation *t, Containerd__Seed__Types__Mount *const *from, size_t n) {
	Grpc__Mount **to = arena_alloc(t->arena, (n + 1) * sizeof(*to));
	for (size_t i = 0; to && i < n; i++) {
		if (!(to[i] = CTD_NEW(t->arena, Grpc__Mount, GRPC__MOUNT__INIT)))
			return NULL;
		to[i]->type = from[i]->type;
		to[i]->source = from[i]->source;
		to[i]->destination = from[i]->target; /* below the root */
		to[i]->options = from[i]->options;
		to[i]->n_options = from[i]->n_options;
	}
	return to;
}
