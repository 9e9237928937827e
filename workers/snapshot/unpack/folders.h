/*
 * The folders of a layer while it is being unpacked: opens the folder that an
 * entry belongs to, makes it where the archive didn't name it, and keeps the
 * last few open. All paths are resolved inside of the layer's root, symbolic
 * links of the layer included; none leads out of it.
 *
 * Attributes that later entries would spoil (times, default ACLs) wait here
 * for the end.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "base/map.h"
#include "workers/snapshot/unpack/report.h"

#include <stdbool.h>
#include <time.h>

#define FOLDERS_OPEN_MAX 64
#define FOLDERS_MEMORY_MAX (128u * 1024 * 1024)

struct open_folder {
	char *path; /* NULL: its place is free */
	int fd;	    /* O_PATH */
	unsigned used;
};

/* What is to be done to one folder at the end. */
struct folder_late {
	struct map_node node; /* by path */
	bool implicit, has_mtime;
	struct timespec mtime;
	const void *acl; /* system.posix_acl_default */
	size_t acl_size;
};

struct folders {
	int root; /* O_PATH, the caller's */
	struct open_folder open[FOLDERS_OPEN_MAX];
	unsigned clock;
	struct map late;
	struct arena arena;
	uint64_t made; /* folders made because nothing named them */
	struct buffer *report;
};

void folders_init(struct folders *f, int root, struct buffer *report);
void folders_deinit(struct folders *f);
/* The folder at a clean path, made if it isn't there. The descriptor is f's
 * and valid until the next call. */
int folders_open(struct folders *f, const char *path, int *ret_fd, struct fault *fault) NODISCARD;
/* What was open may not be what its path means any more. The descriptor that
 * folders_open gave last stays valid. */
void folders_forget(struct folders *f);
/* The root was there before the archive, so until it is named it is implicit. */
int folders_unnamed_root(struct folders *f) NODISCARD;
/* The archive named the folder: it isn't implicit, and has a time. */
int folders_named(struct folders *f, const char *path, struct timespec mtime, struct fault *fault) NODISCARD;
int folders_acl(struct folders *f, const char *path, const void *acl, size_t size, struct fault *fault) NODISCARD;
/* Applies what waited, and reports what is still implicit. */
int folders_finish(struct folders *f, struct fault *fault) NODISCARD;
/* Opens a path inside of root, symbolic links resolved within it. */
int open_inside(int root, const char *path, int flags) NODISCARD;
