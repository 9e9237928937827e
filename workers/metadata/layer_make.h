/*
 * A layer from an archive in a file of this machine's: layer_unpack, whose child
 * checks that it is what it is said to be, then layer_commit, then its record. It
 * is garbage until somebody has it.
 */
#pragma once

#include "workers/metadata/metadata.h"

struct layer_making {
	struct metadata *m;
	const struct msg_context *context;
	struct msg_call *call;	      /* what is under way; NULL: nothing */
	Bulkhead__LayerRecord record; /* chain_id and diff_id: which */
	/* Names the layers below in the commit, once they are needed. -1: it isn't
	 * wanted any more, and done isn't called. NULL: there are none. */
	int (*below)(struct layer_making *l, Bulkhead__LayerCommitRequest *q);
	void (*done)(struct layer_making *l, const struct fault *fault);
};

/* One that is there already is kept. Takes *file. */
void layer_make(struct layer_making *l, int *file);
