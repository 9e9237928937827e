/* What verbose statuses say beyond the CRI: one JSON object each, with the names that the ecosystem's tools look for
 * (pid, config, runtimeSpec, imageSpec.config). NULL when out of memory. */
#pragma once

#include "workers/metadata/metadata.h"

char *info_sandbox(struct arena *a, const struct sandbox *s);
char *info_container(struct metadata *m, struct arena *a, struct container *c);
char *info_image(struct metadata *m, struct arena *a, const struct image *i);
