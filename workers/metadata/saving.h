/*
 * What checkpoints are made of, of a container or of several of a pod: one
 * container saved, its changed files written, and the archive there without a
 * name. What comes then is the caller's: checkpoint_end or cut_end.
 *
 *   checkpoint_begin   criu stops the container and saves it
 *   archive_write      its changed files; then it goes on, or stays frozen
 */
#pragma once

#include "base/sha256.h"
#include "internal/record.pb-c.h"
#include "workers/metadata/container.h"
#include "workers/metadata/metadata.h"

#define CHECKPOINT_TIMEOUT_DEFAULT 120 /* seconds */
#define CHECKPOINT_TIMEOUT_MAX (24 * 3600)

/* fault NULL: the archive is whole. */
typedef void (*saving_fn)(void *ctx, const struct fault *fault);

struct saving {
	struct metadata *m;
	struct msg_context context;
	char *sandbox_id, *container_id;
	Bulkhead__ArchiveWriteRequest archive;
	/* What a restore will need to know. */
	Bulkhead__CheckpointRecord made;
	Bulkhead__CheckpointPipes pipes;
	char digest[DIGEST_SIZE], privileges[DIGEST_SIZE];
	struct msg_call *call;
	bool begun; /* the keeper has something to end */
	saving_fn done;
	void *ctx;
};

/* Describes a container that runs; in the request's arena, whose context is used
 * with a deadline of its own. */
int saving_new(struct metadata *m, struct msg_request *r, struct container *container, struct saving **ret_saving,
	       struct fault *fault) NODISCARD;
/* location: an absolute path of a file that isn't there. cut: see CutRequest. */
void saving_start(struct saving *s, const char *location, uint64_t timeout_ns, bool cut, saving_fn done, void *ctx);
/* done isn't called any more. */
void saving_cancel(struct saving *s);
/* The archive has its name; without its record it would be only a file. */
int saving_remember(struct saving *s) NODISCARD;
/* How long the calls for a checkpoint may take: the keeper's own time ends first. */
void saving_limit(struct msg_context *context, uint64_t timeout_ns);
/* criu fails when the writer does, and the other way round; ABORTED is how the
 * writer says that the reason is elsewhere. */
void saving_fault(const struct fault *later, bool *failed, struct fault *fault);
