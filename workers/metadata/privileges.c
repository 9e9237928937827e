#include "workers/metadata/privileges.h"

#include <errno.h>

static void process_reduce(const Grpc__Process *p, Grpc__Process *to) {
	to->terminal = p->terminal;
	to->user = p->user;
	to->capabilities = p->capabilities;
	to->rlimits = p->rlimits;
	to->n_rlimits = p->n_rlimits;
	to->nonewprivileges = p->nonewprivileges;
	to->apparmorprofile = p->apparmorprofile;
	to->selinuxlabel = p->selinuxlabel;
}

static int mounts_reduce(struct arena *a, const Grpc__Spec *spec, Grpc__Spec *to) {
	Grpc__Mount *m = arena_alloc(a, (spec->n_mounts + 1) * sizeof(*m));
	to->mounts = arena_alloc(a, (spec->n_mounts + 1) * sizeof(*to->mounts));
	if (!m || !to->mounts)
		return -ENOMEM;
	for (size_t i = 0; i < spec->n_mounts; i++) {
		m[i] = *spec->mounts[i];
		m[i].source = (char *)"";
		to->mounts[i] = &m[i];
	}
	to->n_mounts = spec->n_mounts;
	return 0;
}

int privileges_digest(struct arena *a, const Grpc__Spec *spec, char ret_digest[DIGEST_SIZE]) {
	Grpc__Spec reduced = GRPC__SPEC__INIT;
	Grpc__Process process = GRPC__PROCESS__INIT;
	Grpc__Linux linux_part = GRPC__LINUX__INIT;
	Grpc__Root root = GRPC__ROOT__INIT;
	int r = mounts_reduce(a, spec, &reduced);
	if (r < 0)
		return r;
	if (spec->process)
		process_reduce(spec->process, &process);
	if (spec->linux)
		linux_part = *spec->linux;
	linux_part.resources = NULL;
	linux_part.cgroupspath = (char *)"";
	root.readonly = spec->root && spec->root->readonly;
	reduced.process = &process;
	reduced.linux = &linux_part;
	reduced.root = &root;
	reduced.annotations = spec->annotations;
	reduced.n_annotations = spec->n_annotations;
	size_t size = grpc__spec__get_packed_size(&reduced);
	uint8_t *bytes = arena_alloc(a, size + 1);
	if (!bytes)
		return -ENOMEM;
	grpc__spec__pack(&reduced, bytes);
	sha256_digest(bytes, size, ret_digest);
	return 0;
}
