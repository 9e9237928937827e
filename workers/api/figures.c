#include "workers/api/figures.h"

#include <stdint.h>
#include <string.h>

void metric_put(void *to, const struct metric_place *places, size_t n, const Bulkhead__TaskStats *s) {
	for (size_t i = 0; i < s->n_figures; i++)
		for (size_t k = 0; k < n; k++)
			if (strcmp(s->figures[i]->name, places[k].name) == 0)
				*(uint64_t *)((char *)to + places[k].offset) = s->figures[i]->value;
}
