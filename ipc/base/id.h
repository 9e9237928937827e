/* Names of objects: random ids, and the grammar that any id must match before
 * it is used in a path. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_SIZE 65 /* 64 hexadecimal digits and the NUL */

void id_random(char ret_id[ID_SIZE]);
/* [A-Za-z0-9]+([._-][A-Za-z0-9]+)*, at most 76 characters: containerd's rule,
 * which every id of the CRI fits too. */
bool id_valid(const char *id);
/* "sha256:" and 64 lower-case hexadecimal digits. */
bool digest_valid(const char *digest);
/* A layer's name: a digest (its chain id), or "commit:" and 64 digits, which
 * layer_id_random makes up for what has no chain id. */
#define LAYER_ID_SIZE 72
bool layer_id_valid(const char *id);
void layer_id_random(char ret_id[LAYER_ID_SIZE]);
