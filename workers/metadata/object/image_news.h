/*
 * What becomes of the names of the CRI's images, told to those who follow
 * events. A record is compared with what the names led to before it was put,
 * and told after it was.
 */
#pragma once

#include "base/arena.h"
#include "internal/record.pb-c.h"

struct metadata;

/* All that an image is called: names, digest references, and its id unless
 * somebody has taken that away. */
size_t image_n_keys(const Bulkhead__ImageRecord *r);
const char *image_key_at(const Bulkhead__ImageRecord *r, size_t k);

/* Of an image that will be put; in the arena. NULL: nobody listens, or out of memory. */
struct image_news *image_news_of(struct metadata *m, struct arena *a, const Bulkhead__ImageRecord *r);
/* Once STORE_IMAGES is committed. news may be NULL. */
void image_news_tell(struct metadata *m, const struct image_news *news);
/* One name: "update", "delete". */
void image_key_tell(struct metadata *m, const char *what, const char *key);
/* All of a record that was deleted. */
void image_gone_tell(struct metadata *m, const Bulkhead__ImageRecord *r);
