#include "boot/endpoint.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char *const names[GROUP_COUNT] = {
	[GROUP_CRI] = "cri",
	[GROUP_CRI_V1ALPHA2] = "cri-v1alpha2",
	[GROUP_CRI_SEED] = "cri-seed",
	[GROUP_CONTAINERD] = "containerd",
	[GROUP_CONTAINERD_SEED] = "containerd-seed",
	[GROUP_SANDBOX_SEED] = "sandbox-seed",
	[GROUP_HEALTH] = "health",
	[GROUP_ADMIN] = "admin",
};

const char *service_group_name(enum service_group group) {
	return (unsigned)group < GROUP_COUNT ? names[group] : NULL;
}

int service_group_find(const char *name) {
	for (int g = 0; g < GROUP_COUNT; g++)
		if (strcmp(names[g], name) == 0)
			return g;
	return -EINVAL;
}

bool endpoint_admits(const struct boot_endpoint *e, uid_t uid) {
	for (uint32_t i = 0; i < e->n_uids; i++)
		if (e->uids[i] == uid)
			return true;
	return e->n_uids == 0;
}
