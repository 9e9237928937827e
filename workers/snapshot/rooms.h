/*
 * The two folders that the worker owns, and what is in them:
 *
 *   <state root>/layers/
 *     <short name>/fs      a committed layer in overlayfs's form
 *     <short name>/layer   its chain id and size
 *     .staging/            layers being unpacked; gone after a restart
 *     .writable/<key>      snapshots that may become layers: fs, work
 *     .empty/1, .empty/2   stand below a single layer: overlayfs wants two
 *     .mapped, .mount, .view   where mounts are for a moment, in the worker's namespace
 *     .trash/
 *   <state root>/snapshots/
 *     <key>/fs, <key>/work a container's writable part
 *     .spread/NN/<key>     snapshots being made (see rooms_spread_make)
 *     .new/                copies being made (without overlayfs)
 *     .views/<short name>  read-only copies (without overlayfs)
 *     .trash/
 *
 * Keys and short names never begin with a dot. The working directory is the
 * folder of the layers, and ROOM_SNAPSHOTS leads from there to the other.
 */
#pragma once

#include "base/fault.h"

#include <stdbool.h>

#define ROOM_SNAPSHOTS "../snapshots"
#define ROOM_STAGING ".staging"
#define ROOM_WRITABLE ".writable"
#define ROOM_EMPTY ".empty"
#define ROOM_EMPTY_1 ".empty/1"
#define ROOM_EMPTY_2 ".empty/2"
#define ROOM_NEW ".new"
#define ROOM_SPREAD ".spread"
#define ROOM_VIEWS ".views"

struct rooms {
	int layers, layers_staging, layers_writable, layers_trash;
	int snapshots, snapshots_new, snapshots_views, snapshots_spread, snapshots_trash;
	unsigned next_spread;
	bool leftovers; /* something was put into the trash at the start */
};

/* Opens both, makes what is missing, and puts leftovers of an earlier life into
 * the trash. Changes the working directory. */
int rooms_open(struct rooms *r, const char *state_root, struct fault *fault) NODISCARD;
/* Makes a folder for key that lies somewhere else on the disk than the ones
 * before it; its name in snapshots_spread. Existing is fine. */
#define ROOMS_SPREAD_NAME 96
int rooms_spread_make(struct rooms *r, const char *key, char ret_name[ROOMS_SPREAD_NAME]) NODISCARD;
/* A folder with its owner and mode. Existing is fine. */
int room_folder(int dir, const char *name, unsigned mode, unsigned uid, unsigned gid) NODISCARD;
