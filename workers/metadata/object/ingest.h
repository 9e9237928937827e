/* Ingests: what clients write, on its way to being content. */
#pragma once

#include "base/sha256.h"
#include "internal/image.pb-c.h"
#include "internal/object.pb-c.h"

struct metadata;
struct object;

/* What the image worker calls it: 64 digits that only this namespace and name
 * give; points into *ret_id. */
struct write_id {
	char digest[DIGEST_SIZE];
};
char *ingest_write_id(const Bulkhead__ObjectKey *id, struct write_id *ret_id);
/* s: as the image worker has it; NULL: not at all. Points into both. */
void ingest_status(const Bulkhead__Object *o, const Bulkhead__WriteState *s, Bulkhead__IngestStatus *ret_status);

/* The ingest and what was written of it are gone. */
void ingest_drop(struct metadata *m, struct object *x);
