/* Clients' writes: the rows write_* and blob_open. */
#pragma once

#include "worker.h"

struct fault;

/* Each answers the request, now or later. */
void write_open(struct image_worker *w, struct msg_request *r, const Bulkhead__WriteOpenRequest *m);
void write_sync(struct image_worker *w, struct msg_request *r, const Bulkhead__WriteSyncRequest *m);
void write_commit(struct image_worker *w, struct msg_request *r, const Bulkhead__WriteCommitRequest *m);
void write_list(struct image_worker *w, struct msg_request *r, const Bulkhead__KeyList *m);
void write_remove(struct image_worker *w, struct msg_request *r, const Bulkhead__KeyList *m);
/* Whoever writes is cut off; what was written stays. */
void write_abandon_all(struct image_worker *w, const char *why);
