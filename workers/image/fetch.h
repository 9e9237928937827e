/* layer_fetch: one blob into the store and, as it comes, into a pipe. */
#pragma once

#include "worker.h"

/* Answers the request, now or later. */
void fetch_start(struct image_worker *w, struct msg_request *request, const Bulkhead__LayerFetchRequest *m);
/* Ends every fetch with an error; what was downloaded stays for next time. */
void fetch_abandon_all(struct image_worker *w, const char *why);
