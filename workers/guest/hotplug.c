/*
 * CPUs and memory that the guest was given while it runs. They appear offline; a
 * CPU's file says so, and bringing one up takes the kernel a while.
 */
#include "device.h"

#include "base/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 100
#define PAUSE (50 * NS_PER_MS)

static void dir_close(DIR **d) {
	if (*d)
		closedir(*d);
}

static bool numbered(const char *name, const char *prefix) {
	size_t n = strlen(prefix);
	return strncmp(name, prefix, n) == 0 && isdigit((unsigned char)name[n]);
}

/* Brings up what is numbered so, at most *room of them; counts those that are up
 * in *ret_up. One that can't be is left for the next round. */
static int online_round(const struct work *w, const char *kind, uint32_t room, uint32_t *ret_up, bool *ret_all) {
	char folder[PATH_MAX], path[PATH_MAX], state[16];
	snprintf(folder, sizeof(folder), "%s/devices/system/%s", w->config->agent_sysfs, kind);
	CLEANUP(dir_close) DIR *d = opendir(folder);
	if (!d)
		return -errno;
	*ret_up = 0;
	*ret_all = true;
	/* Those that are up count first, or too many would be brought up. */
	for (int pass = 0; pass < 2; pass++, rewinddir(d))
		for (struct dirent *e; (e = readdir(d));) {
			if (!numbered(e->d_name, kind))
				continue;
			snprintf(path, sizeof(path), "%.2048s/%s/online", folder, e->d_name);
			int r = sysfs_read(path, state, sizeof(state));
			/* The first CPU has no such file where it can't go down. */
			bool up = r == -ENOENT || strcmp(state, "0") != 0;
			if (pass == 0 && up)
				++*ret_up;
			if (pass == 0 || up || *ret_up >= room)
				continue;
			if (sysfs_write(path, "1") == 0)
				++*ret_up;
			else
				*ret_all = false;
		}
	return 0;
}

static int online_cpus(const struct work *w, uint32_t wanted, struct fault *fault) {
	uint32_t up = 0;
	bool all;
	for (int round = 0; round < ROUNDS; round++) {
		int r = online_round(w, "cpu", wanted, &up, &all);
		if (r < 0)
			return fault_errno(fault, r, "look at the CPUs");
		if (up >= wanted)
			return 0;
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE }, NULL);
	}
	return fault_set(fault, FAULT_INTERNAL, "%u of %u CPUs are up after %d s", up, wanted,
			 (int)(ROUNDS * PAUSE / NS_PER_SEC));
}

/* Blocks of memory that the kernel can't take now are no failure: they may be
 * parts of something else. */
static int online_memory(const struct work *w, struct fault *fault) {
	uint32_t up;
	bool all;
	int r = online_round(w, "memory", UINT32_MAX, &up, &all);
	return r < 0 && r != -ENOENT ? fault_errno(fault, r, "look at the memory") : 0;
}

int guest_online_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__OnlineCPUMemRequest *q = (const Grpc__OnlineCPUMemRequest *)request;
	int r = q->nb_cpus ? online_cpus(w, q->nb_cpus, fault) : 0;
	return r == 0 && !q->cpu_only ? online_memory(w, fault) : r;
}

int guest_probe_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__MemHotplugByProbeRequest *q = (const Grpc__MemHotplugByProbeRequest *)request;
	char path[PATH_MAX], text[32];
	snprintf(path, sizeof(path), "%s/devices/system/memory/probe", w->config->agent_sysfs);
	if (access(path, F_OK) < 0)
		return fault_set(fault, FAULT_FAILED_PRECONDITION, "the kernel isn't told of new memory: no %s", path);
	for (size_t i = 0; i < q->n_memhotplugprobeaddr; i++) {
		snprintf(text, sizeof(text), "0x%llx", (unsigned long long)q->memhotplugprobeaddr[i]);
		int r = sysfs_write(path, text);
		if (r < 0)
			return fault_errno(fault, r, "tell the kernel of memory at %s", text);
	}
	return 0;
}
