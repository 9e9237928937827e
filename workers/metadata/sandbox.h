/* What the files of the pod sandbox operations share. */
#pragma once

#include "workers/metadata/lifecycle.h"

struct sandbox_op {
	struct op op;
	struct sandbox *s;
	char id[KEY_SIZE];
};

/* r (may be NULL) joins it; NULL when out of memory, r is answered then. */
struct sandbox_op *sandbox_op_new(struct metadata *m, const struct op_class *class, struct sandbox *s,
				  struct msg_request *r);
void sandbox_op_free(struct op *op);
struct sandbox *sandbox_of(struct op *op);
