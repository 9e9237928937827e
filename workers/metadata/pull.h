/*
 * Pulling an image: resolve -> layers, several at a time, each unpacked while
 * it downloads -> records -> answer. A pull of the same reference with the same
 * credentials joins; what two images have in common is fetched once.
 */
#pragma once

#include "workers/metadata/layer_job.h"
#include "workers/metadata/metadata.h"

struct pull;

/* The same without a registry: name becomes that of the image target, made from
 * what the content store has. Runs after when it has ended, however; r gives
 * the context, and isn't answered. */
struct op_after;
void pull_local(struct metadata *m, struct msg_request *r, const char *name, const Bulkhead__Descriptor *target,
		struct op_after *after);

/* For the layer jobs. */
struct metadata *pull_metadata(struct pull *p);
struct msg_context pull_context(struct pull *p);
void pull_advance(struct pull *p);
void pull_job_ended(struct pull *p, struct layer_job *j, const struct fault *fault);

/* For garbage collection: marks what pulls under way need. */
void pulls_mark_layers(struct metadata *m);
bool pulls_need_blob(struct metadata *m, const char *digest);

/* Tells the image worker which images there are, a moment later. */
void index_later(struct metadata *m);
