/*
 * bulkhead-initrd: packs a guest's first file system, as an archive that the
 * kernel unpacks (cpio, newc). It needs no root: owners and devices are only
 * written down.
 *
 *   main.c     what is in it
 *   archive.c  the archive
 *   modules.c  the kernel's modules, each after those that it needs
 */
#pragma once

#include "base/fault.h"

#include <stdio.h>
#include <sys/types.h>

struct archive {
	FILE *out;
	unsigned inodes;
	off_t size;
};

/* path: without the first slash; folders must come before what is in them. */
int archive_folder(struct archive *a, const char *path, mode_t mode, struct fault *fault) NODISCARD;
int archive_device(struct archive *a, const char *path, mode_t mode, unsigned major, unsigned minor,
		   struct fault *fault) NODISCARD;
int archive_data(struct archive *a, const char *path, mode_t mode, const void *data, size_t size,
		 struct fault *fault) NODISCARD;
int archive_file(struct archive *a, const char *path, mode_t mode, const char *from, struct fault *fault) NODISCARD;
int archive_end(struct archive *a, struct fault *fault) NODISCARD;

#define MODULES_MAX 128

struct modules {
	char *files[MODULES_MAX]; /* in the order in which they are loaded */
	size_t n;
};

/* folder: .../lib/modules/VERSION. names ends with NULL; what the kernel has
 * built in is left out. */
int modules_order(const char *folder, char *const *names, struct modules *ret_modules, struct fault *fault) NODISCARD;
