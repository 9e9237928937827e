/* registry_push: an image out of the store, to a registry. */
#pragma once

#include "worker.h"

void push_abandon_all(struct image_worker *w, const char *why);
