/* What the image worker's parts share. */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "boot/boot.h"
#include "content.h"
#include "msg/typed.h"
#include "transfer.h"

struct image_worker {
	struct loop *loop;
	const struct boot_config *config;
	struct link *metadata;
	struct transfers *transfers;
	struct content *content;
	struct list sessions;	  /* struct session */
	unsigned n_sessions;	  /* released ones with work under way too */
	struct map downloads;	  /* by digest: struct download */
	struct list fetches;	  /* struct fetch: those that wait for their pipe only */
	struct list resolves;	  /* struct resolve */
	struct list pushes;	  /* struct push */
	struct map writes;	  /* by id: struct write */
	struct loop_source *idle; /* soon after the last session */
};

/* config and metadata must outlive it. The content store is opened by then. */
int image_worker_init(struct image_worker *w, struct loop *loop, const struct boot_config *config,
		      struct link *metadata, struct content *content);
/* Ends all pulls; whoever waits for them is told. */
void image_worker_abandon(struct image_worker *w, const char *why);
void image_worker_deinit(struct image_worker *w);

/* Nothing is being pulled: gives memory back when it stays so. */
void image_worker_idle(struct image_worker *w);

/* The rows that this worker answers (resolve.c, fetch.c, write.c, handlers.c); each
 * answers its request, now or later. */
#define TO_IMAGE(name) HANDLER_DECLARE(struct image_worker, name)
#include "msg/receivers.def"
extern const struct link_handler image_handlers[];
