/* All sandboxes that are objects' run time; see csandbox.h. */
#pragma once

#include "base/list.h"
#include "base/map.h"

struct csandboxes {
	struct list all;
	struct map names;
};

void csandboxes_init(struct csandboxes *c);
void csandboxes_deinit(struct csandboxes *c);
