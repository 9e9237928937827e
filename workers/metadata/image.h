/* Records of images and layers in the store. */
#pragma once

#include "workers/metadata/metadata.h"

#define IMAGE_KEY_SIZE 80
void image_key(const char *id, char ret_key[IMAGE_KEY_SIZE]);
void layer_key(const char *chain_id, char ret_key[IMAGE_KEY_SIZE]);

/* What a container is made from: NOT_FOUND unless it is here, whole. */
int image_find(struct metadata *m, const char *name, struct image **ret_image, struct fault *fault) NODISCARD;

/* As RemoveImage does it; runs after at its end. False: out of memory. */
struct op_after;
bool image_remove(struct metadata *m, struct msg_request *r, struct image *i, struct op_after *after) NODISCARD;

int image_save(struct metadata *m, struct image *i) NODISCARD;
int layer_save(struct metadata *m, struct layer *l) NODISCARD;
