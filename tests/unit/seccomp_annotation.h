/* A Spec that says nothing but which seccomp profile it wants. */
#pragma once

#include "workers/task/seccomp/seccomp.h"

struct annotated_spec {
	Grpc__Spec spec;
	Grpc__Spec__AnnotationsEntry entry, *entries[1];
};

/* profile NULL: no annotation. Valid as long as *s. */
static inline Grpc__Spec *annotated_spec(struct annotated_spec *s, const char *profile) {
	*s = (struct annotated_spec){ .spec = GRPC__SPEC__INIT, .entry = GRPC__SPEC__ANNOTATIONS_ENTRY__INIT };
	s->entry.key = (char *)SECCOMP_ANNOTATION;
	s->entry.value = (char *)profile;
	s->entries[0] = &s->entry;
	s->spec.annotations = s->entries;
	s->spec.n_annotations = profile ? 1 : 0;
	return &s->spec;
}
