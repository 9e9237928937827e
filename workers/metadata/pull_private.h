/* A pull as the files about it see it. */
#pragma once

#include "base/sha256.h"
#include "workers/metadata/pull.h"
#include "workers/metadata/reference.h"

struct pull_layer {
	struct pull *pull;
	char chain_id[DIGEST_SIZE];
	struct layer_job *job;	    /* ours */
	struct layer_waiter waiter; /* on another pull's */
	bool waiting, done, fetched;
	uint64_t offset, total;
};

struct pull {
	struct op op;
	struct list node;   /* metadata.pulls */
	struct arena arena; /* of the request's copy */
	char *key;	    /* what a request must equal to join */
	struct reference ref;
	char name[REFERENCE_MAX];
	Bulkhead__Credentials credentials;
	Bulkhead__Descriptor *local;		/* NULL: from a registry */
	const Bulkhead__ImagePullRequest *into; /* NULL: the CRI asks */
	bool objects;				/* for a namespace that isn't the CRI's: into says which */

	unsigned attempts;
	uint64_t losses; /* metadata.losses when this attempt began */
	uint64_t id;	 /* the session with the image worker; a new one per attempt */
	struct arena resolved_arena;
	const Bulkhead__ImageResolveReply *resolved;
	struct pull_layer *layers;
	bool advancing;

	struct list watchers; /* struct watcher: whom to tell how far it is */
	struct loop_source *event_timer;
};

struct watcher {
	struct list node;
	struct msg_request *r;
};

extern const struct op_step pull_steps[];

struct pull *pull_of(struct op *op);
/* The namespace has what the record says. A negative errno of object_add. */
int pull_keep_objects(struct pull *p, const Bulkhead__ImageRecord *r) NODISCARD;
/* Ends the session with the image worker. */
void pull_session_end(struct pull *p);
