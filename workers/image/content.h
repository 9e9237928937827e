/*
 * The content store: an OCI image layout that other tools can read.
 *
 *   <state root>/content/oci-layout
 *   <state root>/content/index.json        what the metadata worker last told
 *   <state root>/content/blobs/sha256/HEX  complete, verified, synced
 *   <state root>/content/ingest/HEX        a layer under way, or cut off
 *   <state root>/content/ingest/HEX.N      a document under way
 *   <state root>/content/writes/ID         what a client is writing, or has left
 *
 * A blob gets its name after its bytes were verified and synced, and is told
 * of after its folder was synced. Nothing is ever written below blobs/.
 */
#pragma once

#include "base/fault.h"
#include "internal/common.pb-c.h"
#include "internal/image.pb-c.h"
#include "loop/loop.h"
#include "reference.h"

struct content;

/* Makes what isn't there yet, and removes what no download will go on with. */
int content_open(struct loop *loop, const char *state_root, struct content **ret_content, struct fault *fault);
void content_free(struct content *c);

/* A complete blob for reading; -ENOENT without a fault when there is none.
 * size is checked unless it is UINT64_MAX. */
int content_blob_open(struct content *c, const char *digest, uint64_t size, int *ret_fd);
/* A small one as bytes, digest checked again: what the disk says may have
 * changed since. -ENOENT when there is none that is good. */
int content_blob_read(struct content *c, const char *digest, size_t max, struct buffer *ret_data);

/* The list and its texts live in the arena. */
struct arena;
int content_list_blobs(struct content *c, struct arena *arena, Bulkhead__ContentListReply *ret_list,
		       struct fault *fault);

typedef void (*content_done_fn)(void *ctx, const struct fault *fault);
struct content_call;
/* Removes blobs; those that aren't there are fine. done is called later. */
int content_remove_blobs(struct content *c, char *const *digests, size_t n, content_done_fn done, void *ctx,
			 struct fault *fault);
/* Replaces index.json; calls run in the order they came. */
int content_write_index(struct content *c, const Bulkhead__ContentIndexRequest *index, content_done_fn done, void *ctx,
			struct fault *fault);

/* Removes partial downloads that nobody went on with for an hour, and what
 * clients have left for longer than the metadata worker remembers it. */
void content_sweep(struct content *c);

/* --- for ingest.c --- */

const char *content_path(const struct content *c);
struct loop *content_loop(const struct content *c);
int content_ingest_dir(const struct content *c);
int content_blobs_dir(const struct content *c);
int content_writes_dir(const struct content *c);
/* A number that no other call gets. */
uint64_t content_serial(struct content *c);
