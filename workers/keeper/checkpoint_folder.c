/* The folders in which criu works, one per container: made, locked, swept. */
#include "workers/keeper/checkpoint.h"

#include "base/fd.h"
#include "base/id.h"
#include "workers/keeper/criu.h"
#include "workers/keeper/keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define FOLDER_TRIES 5

static void files_remove(int folder) {
	int copy = openat(folder, ".", FOLDER_FLAGS);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	if (!d) {
		fd_close(copy);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		unlinkat(folder, e->d_name, 0);
	closedir(d);
}

void checkpoint_folder_remove(const struct keeper_config *config, const char *id, int folder) {
	char path[PATH_MAX];
	CLEANUP_FD int images = openat(folder, CRIU_IMAGES, FOLDER_FLAGS);
	if (images >= 0)
		files_remove(images);
	unlinkat(folder, CRIU_IMAGES, AT_REMOVEDIR);
	unlinkat(folder, CRIU_ROOT, AT_REMOVEDIR);
	files_remove(folder);
	snprintf(path, sizeof(path), "%s/%s", config->checkpoints, id);
	rmdir(path);
}

void checkpoint_sweep(const struct keeper_config *config) {
	DIR *d = opendir(config->checkpoints);
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		CLEANUP_FD int folder = id_valid(e->d_name) ? openat(dirfd(d), e->d_name, FOLDER_FLAGS) : -1;
		if (folder >= 0 && flock(folder, LOCK_EX | LOCK_NB) == 0)
			checkpoint_folder_remove(config, e->d_name, folder);
	}
	closedir(d);
}

bool checkpoint_held(const struct keeper_config *config, const char *id) {
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", config->checkpoints, id);
	CLEANUP_FD int folder = open(path, FOLDER_FLAGS);
	return folder >= 0 && flock(folder, LOCK_EX | LOCK_NB) < 0;
}

/* A sweep may take it away before it is locked: then another is made. */
static int folder_make(const struct keeper_config *config, const char *id, const char *content, int *ret_folder) {
	char path[PATH_MAX];
	struct stat st;
	snprintf(path, sizeof(path), "%s/%s", config->checkpoints, id);
	if (mkdir(config->checkpoints, 0700) < 0 && errno != EEXIST)
		return -errno;
	for (int i = 0; i < FOLDER_TRIES; i++) {
		if (mkdir(path, 0700) < 0)
			return -errno;
		CLEANUP_FD int folder = open(path, FOLDER_FLAGS);
		if (folder < 0 || flock(folder, LOCK_EX | LOCK_NB) < 0 || fstat(folder, &st) < 0 || st.st_nlink == 0)
			continue;
		if (mkdirat(folder, content, 0700) < 0)
			return -errno;
		*ret_folder = take_fd(&folder);
		return 0;
	}
	return -EAGAIN;
}

int checkpoint_folder(const struct keeper_config *config, const char *id, const char *content, int *ret_folder,
		      struct fault *fault) {
	checkpoint_sweep(config);
	int r = folder_make(config, id, content, ret_folder);
	if (r == -EEXIST)
		return fault_set(fault, FAULT_ABORTED, "another checkpoint of container \"%s\" is under way", id);
	return r < 0 ? fault_errno(fault, r, "make a folder in \"%s\"", config->checkpoints) : 0;
}
