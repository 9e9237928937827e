/*
 * Overlay mounts that exist as descriptors only. All names are relative to the
 * working directory, the folder of the layers: short names keep the option
 * string short, and no path of the host shows in a container's mount table.
 */
#pragma once

#include "base/fault.h"

#include <stdbool.h>
#include <stddef.h>

/* What this kernel's overlayfs can do; found out by overlay_probe. */
struct overlay {
	bool usable;
	bool lower_append; /* "lowerdir+", one layer at a time (6.8) */
	bool is_volatile;  /* 5.10 */
	bool nofollow;	   /* redirect_dir=nofollow */
};

#define OVERLAY_LAYERS_MAX 500 /* the kernel's own limit */

/* Tries on scratch folders below the open folder, which it leaves empty. Where
 * overlay can't be used, usable is false and the fault says why. */
int overlay_probe(struct overlay *o, int scratch, struct fault *fault) NODISCARD;

/* lowers: folders, top first, at least one. upper and work may be NULL: then
 * the mount is read-only. What an earlier volatile mount left in work is
 * removed. Takes 0.1 to 0.6 ms. */
int overlay_mount(const struct overlay *o, const char *const *lowers, size_t n, const char *upper, const char *work,
		  int *ret_mount, struct fault *fault) NODISCARD;
/* A volatile mount has left a mark in the work folder that refuses others. */
void overlay_mark_remove(const char *work);
