/* The files of an archive by their paths, and what each has become. */
#pragma once

#include "workers/api/containerd/archive_index.h"

#define ARCHIVE_FILES_MAX 4096

struct archive_file {
	const char *path;
	const char *link; /* another's path; NULL: it is a blob */
	struct archive_blob blob;
};

struct archive_files {
	struct arena *arena;
	struct archive_file *v;
	size_t n;
};

/* "a/../b" and "./b" as "b", in place. */
void archive_path_normalise(char *path);
/* -ENOMEM. */
int archive_files_init(struct archive_files *f, struct arena *a) NODISCARD;
/* NULL: the fault says why not. */
struct archive_file *archive_files_add(struct archive_files *f, const char *path, struct fault *fault);
/* to: as a symbolic link has it, from the folder of path; or, not symbolic, from the archive's root. */
int archive_files_add_link(struct archive_files *f, const char *path, const char *to, bool symbolic,
			   struct fault *fault) NODISCARD;
/* An archive_find_fn. */
const struct archive_blob *archive_files_find(void *files, const char *path);
