#include "workers/keeper/backend.h"

static void nothing_left(struct container *c) {
}

static void nothing_to_end(struct keeper *k) {
}

static const struct backend native = {
	.create = native_create,
	.exec = native_exec,
	.ended = nothing_left,
	.pod_ended = nothing_to_end,
};

const struct backend *backend_of(const struct keeper *k) {
	return k->pod.runtime ? &oci_backend : &native;
}
