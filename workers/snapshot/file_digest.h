/* SHA-256 of a whole file, in a child, whose values hold it. */
#pragma once

#include "base/macros.h"
#include "base/sha256.h"
#include "loop/child.h"

/* From its beginning; the descriptor's position stays. */
int file_digest(int fd, uint64_t ret_values[CHILD_VALUES]) NODISCARD;
void file_digest_text(const uint64_t values[CHILD_VALUES], char ret_text[DIGEST_SIZE]);
