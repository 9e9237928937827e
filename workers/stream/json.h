/*
 * The little JSON of the remote command protocols: the status that ends a
 * session, and a terminal's size. Both are facts of the wire: kubectl and its
 * friends read and write them.
 */
#pragma once

#include "base/buffer.h"

/* {"Width": 80, "Height": 24}; false when it is none. */
bool json_read_size(const char *text, size_t size, unsigned short *ret_width, unsigned short *ret_height);
/* How a command ended: a Status of Kubernetes' API. */
void json_add_exit(struct buffer *b, int32_t code);
/* Why it could not be done. */
void json_add_failure(struct buffer *b, const char *text);
