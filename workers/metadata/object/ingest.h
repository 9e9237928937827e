/* Ingests: what clients write, on its way to being content. */
#pragma once

struct metadata;
struct object;

/* The ingest and what was written of it are gone. */
void ingest_drop(struct metadata *m, struct object *x);
