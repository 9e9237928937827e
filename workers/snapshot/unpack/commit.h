/* What the committing child does to an unpacked layer before it gets its final
 * name: everything in the report, with the layers below at hand; then it makes
 * the layer durable. */
#pragma once

#include "base/fault.h"

struct commit_job {
	int layers;	      /* the folder of all layers */
	const char *staged;   /* relative to layers: the folder with fs/ and report */
	const char *name;     /* the final name */
	const char **parents; /* names, top first */
	size_t n_parents;
};

/* When it returns 0, the layer survives a power cut. */
int commit_run(const struct commit_job *job, struct fault *fault) NODISCARD;
/* The parts of it. What the unpacker has reported of the tree in staged, which
 * job->staged names, is done to it; */
int commit_resolve(const struct commit_job *job, int staged, struct fault *fault) NODISCARD;
/* then it is written to disk and gets its final name. */
int commit_durable(const struct commit_job *job, int staged, struct fault *fault) NODISCARD;
