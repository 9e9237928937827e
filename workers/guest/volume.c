/* What is mounted for the host: how full it is, its size, and whether it is still
 * what the host shares. */
#include "guest.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#define SHARED "/shared/containers/"

static Grpc__VolumeUsage *usage(struct work *w, Grpc__VolumeUsage__Unit unit, uint64_t total, uint64_t free,
				uint64_t size) {
	Grpc__VolumeUsage *u = ARENA_NEW(&w->arena, Grpc__VolumeUsage, GRPC__VOLUME_USAGE__INIT);
	if (u) {
		u->unit = unit;
		u->total = total * size;
		u->available = free * size;
		u->used = (total - free) * size;
	}
	return u;
}

int guest_volume_stats_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const char *path = ((const Grpc__VolumeStatsRequest *)request)->volume_guest_path;
	CLEANUP_PLACE struct place p = PLACE_NONE;
	struct statfs f;
	int r = place_find(w, path, false, &p, fault);
	if (r < 0)
		return r;
	CLEANUP_FD int fd = place_open(&p);
	if (fd < 0 || fstatfs(fd, &f) < 0)
		return fault_errno(fault, fd < 0 ? fd : errno, "look at \"%s\"", path);
	Grpc__VolumeStatsResponse *reply =
	    ARENA_NEW(&w->arena, Grpc__VolumeStatsResponse, GRPC__VOLUME_STATS_RESPONSE__INIT);
	Grpc__VolumeUsage **list = arena_zalloc(&w->arena, 2 * sizeof(*list));
	if (!reply || !list)
		return no_memory(fault);
	list[0] = usage(w, GRPC__VOLUME_USAGE__UNIT__BYTES, f.f_blocks, f.f_bfree, (uint64_t)f.f_bsize);
	list[1] = usage(w, GRPC__VOLUME_USAGE__UNIT__INODES, f.f_files, f.f_ffree, 1);
	reply->volume_condition = ARENA_NEW(&w->arena, Grpc__VolumeCondition, GRPC__VOLUME_CONDITION__INIT);
	if (!list[0] || !list[1] || !reply->volume_condition)
		return no_memory(fault);
	reply->volume_condition->message = (char *)"OK";
	reply->usage = list;
	reply->n_usage = 2;
	w->reply = &reply->base;
	return 0;
}

/* The host has changed sizes of tmpfs: "remount,size=". */
static int ephemeral_update(struct work *w, const Grpc__Storage *s, struct fault *fault) {
	CLEANUP_PLACE struct place at = PLACE_NONE;
	if (strcmp(s->driver, "ephemeral") != 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "its driver is \"%s\", not ephemeral", s->driver);
	int r = place_find(w, s->mount_point, true, &at, fault);
	if (r < 0)
		return r;
	if (s->n_options > 0)
		return driver_attach(w, s, &at, fault);
	return mkdirat(at.folder, at.name, 0755) < 0 && errno != EEXIST ? fault_errno(fault, errno, "make it") : 0;
}

int guest_ephemeral_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__UpdateEphemeralMountsRequest *q = (const Grpc__UpdateEphemeralMountsRequest *)request;
	for (size_t i = 0; i < q->n_storages; i++) {
		int r = ephemeral_update(w, q->storages[i], fault);
		if (r < 0)
			return fault_prefix(fault, r, "\"%s\"", q->storages[i]->mount_point);
	}
	return 0;
}

/* A look at each mount below the shared folder makes the host's side drop what is
 * gone there. Nothing of it is a failure. */
int guest_refresh_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	char shared[BOOT_PATH_MAX + 32], line[4096], path[4096];
	struct stat st;
	snprintf(shared, sizeof(shared), "%s" SHARED, w->config->agent_run_root);
	FILE *f = fopen("/proc/self/mountinfo", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*s %*s %*s %*s %4095s", path) == 1 && strncmp(path, shared, strlen(shared)) == 0 &&
		    stat(path, &st) < 0)
			continue;
	if (f)
		fclose(f);
	return 0;
}
