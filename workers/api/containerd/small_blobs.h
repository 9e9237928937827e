/*
 * The small blobs that were read last: manifests and configurations, which
 * clients read several times for each container. What a digest names never
 * changes, so its bytes hold whatever becomes of the object; whether a client
 * has the object is asked each time, and isn't known here.
 */
#pragma once

#include "workers/api/grpc.h"

#define SMALL_BLOB_MAX (16u << 10)

/* The bytes, until the loop's next turn; NULL: they aren't kept. */
const struct buffer *small_blob_find(struct grpc_server *server, const char *digest);
/* A copy of a whole blob; nothing when it is too large, or without memory. */
void small_blob_keep(struct grpc_server *server, const char *digest, const uint8_t *data, size_t size);
