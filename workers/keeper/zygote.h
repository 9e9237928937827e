/* The worker that forks keepers; see zygote.c. */
#pragma once

#include "workers/skeleton/worker.h"

extern const struct worker_class zygote_class;
