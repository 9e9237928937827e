#include "boot/endpoint.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/vm_sockets.h>

static const char *const names[GROUP_COUNT] = {
	[GROUP_CRI] = "cri",
	[GROUP_CRI_V1ALPHA2] = "cri-v1alpha2",
	[GROUP_CRI_SEED] = "cri-seed",
	[GROUP_CONTAINERD] = "containerd",
	[GROUP_CONTAINERD_SEED] = "containerd-seed",
	[GROUP_SANDBOX_SEED] = "sandbox-seed",
	[GROUP_HEALTH] = "health",
	[GROUP_ADMIN] = "admin",
	[GROUP_AGENT] = "agent",
	[GROUP_HYPERVISOR] = "hypervisor",
};

static const char *const protocols[PROTOCOL_COUNT] = {
	[PROTOCOL_GRPC] = "grpc",
	[PROTOCOL_TTRPC] = "ttrpc",
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

const char *endpoint_protocol_name(enum endpoint_protocol protocol) {
	return (unsigned)protocol < PROTOCOL_COUNT ? protocols[protocol] : NULL;
}

int endpoint_protocol_find(const char *name) {
	for (int p = 0; p < PROTOCOL_COUNT; p++)
		if (strcmp(protocols[p], name) == 0)
			return p;
	return -EINVAL;
}

/* Digits that fit, up to the end character. */
static int number_read(const char **at, char end, uint32_t *ret_number) {
	uint64_t n = 0;
	const char *p = *at;
	while (*p >= '0' && *p <= '9' && n <= UINT32_MAX)
		n = n * 10 + (uint64_t)(*p++ - '0');
	if (p == *at || *p != end || n > UINT32_MAX)
		return -EINVAL;
	*at = p + 1;
	*ret_number = (uint32_t)n;
	return 0;
}

int endpoint_vsock(const char *socket, uint32_t *ret_cid, uint32_t *ret_port) {
	static const char scheme[] = "vsock://", any[] = "-1:";
	if (strncmp(socket, scheme, sizeof(scheme) - 1) != 0)
		return -EINVAL;
	const char *at = socket + sizeof(scheme) - 1;
	uint32_t cid = VMADDR_CID_ANY;
	if (strncmp(at, any, sizeof(any) - 1) == 0)
		at += sizeof(any) - 1;
	else if (number_read(&at, ':', &cid) < 0)
		return -EINVAL;
	if (number_read(&at, '\0', ret_port) < 0)
		return -EINVAL;
	*ret_cid = cid;
	return 0;
}

const char *endpoint_serial(const char *socket) {
	static const char scheme[] = "serial://";
	const char *path = socket + sizeof(scheme) - 1;
	return strncmp(socket, scheme, sizeof(scheme) - 1) == 0 && *path == '/' ? path : NULL;
}

bool endpoint_admits(const struct boot_endpoint *e, uid_t uid) {
	for (uint32_t i = 0; i < e->n_uids; i++)
		if (e->uids[i] == uid)
			return true;
	return e->n_uids == 0;
}
