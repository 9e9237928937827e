/* Clients' writes: the rows write_* and blob_open. */
#pragma once

#include "worker.h"

struct fault;

/* Whoever writes is cut off; what was written stays. */
void write_abandon_all(struct image_worker *w, const char *why);
