/* layer_fetch: one blob into the store and, as it comes, into a pipe. */
#pragma once

#include "worker.h"

/* Ends every fetch with an error; what was downloaded stays for next time. */
void fetch_abandon_all(struct image_worker *w, const char *why);
