/* Records of images and layers in the store. */
#pragma once

#include "workers/metadata/metadata.h"

#define IMAGE_KEY_SIZE 80
void image_key(const char *id, char ret_key[IMAGE_KEY_SIZE]);
void layer_key(const char *chain_id, char ret_key[IMAGE_KEY_SIZE]);

int image_save(struct metadata *m, struct image *i) NODISCARD;
int layer_save(struct metadata *m, struct layer *l) NODISCARD;
