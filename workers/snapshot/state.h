/* The worker's own state: one struct, what its files share. */
#pragma once

#include "base/map.h"
#include "msg/typed.h"
#include "workers/snapshot/overlay.h"
#include "workers/snapshot/reaper.h"
#include "workers/snapshot/rooms.h"
#include "workers/snapshot/tree/usage.h"

#include <sys/types.h>

#define CHAIN_SIZE 72 /* "sha256:<hex>" and the NUL */
#define LAYER_NAME_SIZE 65
#define UNPACKERS_MAX 4

enum layer_state {
	LAYER_UNPACKING,
	LAYER_UNPACKED,
	LAYER_COMMITTING,
	LAYER_COMMITTED,
};

struct layer {
	struct map_node node; /* by chain */
	char chain[CHAIN_SIZE];
	/* The shortest prefix of the chain's hex digits, from 12 on, that no
	 * other layer has. */
	char name[LAYER_NAME_SIZE];
	enum layer_state state;
	struct usage usage;
	/* Of its root: a snapshot's root takes them over. */
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

struct snapshot {
	struct map_node node; /* by key */
	char key[80];
	bool beside_layers; /* in ROOM_WRITABLE: it may become one */
	bool copying;	    /* without overlayfs: not usable yet */
	bool changing;	    /* a child unpacks into it, or makes a layer of it */
};

/* Who wants to start one of the UNPACKERS_MAX children that unpack. */
struct unpack_turn {
	struct list node;
	/* Starts it: 0, or the turn goes to the next one. */
	int (*run)(struct unpack_turn *t);
};

struct snapshot_worker {
	struct loop *loop;
	const char *state_root;
	struct rooms rooms;
	struct overlay overlay;
	bool mapped; /* layers can be mapped into user namespaces */
	struct reaper reaper;

	struct map layers, snapshots;
	struct list unpack_ready; /* of struct unpack_turn */
	unsigned unpackers;

	/* snapshot_info */
	struct list info_waiting;
	struct child *measuring;
	int64_t measured; /* clock_mono; 0: never */
	struct usage snapshots_usage;
};

/* Opens the rooms, makes folders, tries overlayfs, finds what is there. */
int snapshot_worker_init(struct snapshot_worker *s, struct loop *loop, const char *state_root,
			 struct fault *fault) NODISCARD;
extern const struct link_handler snapshot_handlers[];

/* layers.c */
int layers_load(struct snapshot_worker *s, struct fault *fault) NODISCARD;
struct layer *layer_find(const struct snapshot_worker *s, const char *chain);
/* A new one in state UNPACKING, with a name that no other has; NULL: no memory. */
struct layer *layer_new(struct snapshot_worker *s, const char *chain);
void layer_free(struct snapshot_worker *s, struct layer *l);
/* Reads the attributes of a committed layer's root. */
int layer_root_read(struct snapshot_worker *s, struct layer *l) NODISCARD;
/* "chain ...", "size ...", "inodes ..." into the file "layer" of a folder. */
int layer_record_write(int dir, const struct layer *l) NODISCARD;
/* Whoever unpacked layers is gone before it committed them: they go too. */
void layers_abandon(struct snapshot_worker *s);
/* Puts what was staged into the trash. */
void layer_staging_discard(struct snapshot_worker *s, const struct layer *l);
/* The names of committed layers, top first, on the request's arena. Fails the
 * request and returns a negative errno when one isn't there. */
int layers_resolve(struct snapshot_worker *s, struct msg_request *r, char *const *chains, size_t n,
		   const struct layer ***ret_layers) NODISCARD;

/* unpackers.c */
void unpack_turn_wait(struct snapshot_worker *s, struct unpack_turn *t);
/* A child that a turn has started is gone. */
void unpack_turn_end(struct snapshot_worker *s);
/* staging/name/fs to unpack to and a file for the report beside it; the name's
 * folder. What is there already was somebody's who gave up. */
struct unpack_job;
int unpack_staging_open(struct snapshot_worker *s, const char *name, struct unpack_job *job, int *ret_dir,
			struct fault *fault) NODISCARD;

/* on_<row>, a file each but for snapshots.c; handlers.c has their table. */
#define TO_SNAPSHOT(name) HANDLER_DECLARE(struct snapshot_worker, name)
#include "msg/receivers.def"

/* The folder of what a container has written; -ENOENT and so on. */
int upper_open(int room, const char *key) NODISCARD;

/* snapshots.c */
int snapshots_load(struct snapshot_worker *s, struct fault *fault) NODISCARD;
struct snapshot *snapshot_find(const struct snapshot_worker *s, const char *key);
struct snapshot *snapshot_new(struct snapshot_worker *s, const char *key);
/* The folder that has its folder, and the same from the working directory. */
int snapshot_room(const struct snapshot_worker *s, const struct snapshot *snapshot);
const char *snapshot_room_name(const struct snapshot *snapshot);
void snapshot_free(struct snapshot_worker *s, struct snapshot *snapshot);
