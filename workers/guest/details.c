/* GetGuestDetails. */
#include "device.h"

#include "base/version.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define NAMES_MAX 16

static char **names(struct work *w, const char *(*name)(size_t i), size_t *ret_n) {
	char **list = arena_zalloc(&w->arena, NAMES_MAX * sizeof(*list));
	size_t n = 0;
	for (const char *s; list && n < NAMES_MAX && (s = name(n)); n++)
		list[n] = (char *)(uintptr_t)s;
	*ret_n = n;
	return list;
}

/* In hexadecimal; 0 where the kernel has no blocks. */
static uint64_t block_size(const struct work *w) {
	char path[PATH_MAX], text[32];
	snprintf(path, sizeof(path), "%s/devices/system/memory/block_size_bytes", w->config->agent_sysfs);
	return sysfs_read(path, text, sizeof(text)) < 0 ? 0 : strtoull(text, NULL, 16);
}

static bool probes(const struct work *w) {
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/devices/system/memory/probe", w->config->agent_sysfs);
	return access(path, F_OK) == 0;
}

int guest_details_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__GuestDetailsRequest *q = (const Grpc__GuestDetailsRequest *)request;
	Grpc__GuestDetailsResponse *reply =
	    ARENA_NEW(&w->arena, Grpc__GuestDetailsResponse, GRPC__GUEST_DETAILS_RESPONSE__INIT);
	Grpc__AgentDetails *a = ARENA_NEW(&w->arena, Grpc__AgentDetails, GRPC__AGENT_DETAILS__INIT);
	if (!reply || !a)
		return no_memory(fault);
	a->version = (char *)(uintptr_t)BULKHEAD_VERSION;
	/* Whose init it is sets this. */
	a->init_daemon = w->config->agent_ends;
	a->device_handlers = names(w, device_type, &a->n_device_handlers);
	a->storage_handlers = names(w, driver_name, &a->n_storage_handlers);
	a->supports_seccomp = access("/proc/sys/kernel/seccomp/actions_avail", F_OK) == 0;
	reply->agent_details = a;
	reply->mem_block_size_bytes = q->mem_block_size ? block_size(w) : 0;
	reply->support_mem_hotplug_probe = q->mem_hotplug_probe && probes(w);
	w->reply = &reply->base;
	return a->device_handlers && a->storage_handlers ? 0 : no_memory(fault);
}
