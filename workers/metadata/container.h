/* What the files of the container operations share. */
#pragma once

#include "workers/metadata/lifecycle.h"

struct container_op {
	struct op op;
	struct container *c;
	char id[KEY_SIZE];
	size_t volume; /* the next one that create looks at */
};

/* r joins it; NULL when out of memory, r is answered then. */
struct container_op *container_op_new(struct metadata *m, const struct op_class *class, struct container *c,
				      struct msg_request *r);
void container_op_free(struct op *op);
struct container *container_of_op(struct op *op);

/* The runtime spec as of now, in the arena. */
int container_spec(struct metadata *m, struct container *c, struct arena *a, Grpc__Spec **ret_spec,
		   struct fault *fault) NODISCARD;
