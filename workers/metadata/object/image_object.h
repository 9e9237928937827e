/* Images of the namespace k8s.io that are the CRI's. */
#pragma once

#include "workers/metadata/metadata.h"

/* May it be one that the CRI has, by its namespace and name? */
bool image_object_is_cri(struct metadata *m, const Bulkhead__ObjectKey *id);
/* The namespace has this image from now on, instead of what the name led to.
 * want lives in the request's arena. Answers r, later. */
void image_object_put(struct metadata *m, struct msg_request *r, const Bulkhead__Object *want);
/* Takes the name from i, which has it. Answers r, later. */
void image_object_delete(struct metadata *m, struct msg_request *r, const Bulkhead__ObjectKey *id, struct image *i);
