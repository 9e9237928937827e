/* All tasks of containers that are objects; see ctask.h. */
#pragma once

#include "base/list.h"
#include "base/map.h"

struct ctasks {
	struct list all;
	struct map names, pods;
};

void ctasks_init(struct ctasks *c);
void ctasks_deinit(struct ctasks *c);
