/*
 * A listening endpoint: a socket, the groups of services behind it and what
 * its clients may do there. Each has an API worker of its own, whose instance
 * is the endpoint's place in the configuration.
 */
#pragma once

#include "msg/access.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define BOOT_ENDPOINTS_MAX 8
#define BOOT_ENDPOINT_NAME_MAX 32
#define BOOT_SOCKET_MAX 108 /* sockaddr_un's, with the NUL */
#define BOOT_UIDS_MAX 16

/* The groups by which a configuration names services. workers/api/services.c
 * has the services of each. */
enum service_group {
	GROUP_CRI,
	GROUP_CRI_V1ALPHA2,
	GROUP_CRI_SEED,
	GROUP_CONTAINERD,
	GROUP_CONTAINERD_SEED,
	GROUP_SANDBOX_SEED,
	GROUP_HEALTH,
	GROUP_ADMIN,
	GROUP_AGENT,
	GROUP_HYPERVISOR,
	GROUP_COUNT
};

#define GROUP_BIT(name) (1u << GROUP_##name)

/* Those that this version has services of (tests/unit/test_grpc.c compares). */
#define GROUPS_SERVED                                                                                  \
	(GROUP_BIT(CRI) | GROUP_BIT(CRI_V1ALPHA2) | GROUP_BIT(CRI_SEED) | GROUP_BIT(CONTAINERD) |      \
	 GROUP_BIT(CONTAINERD_SEED) | GROUP_BIT(SANDBOX_SEED) | GROUP_BIT(HEALTH) | GROUP_BIT(ADMIN) | \
	 GROUP_BIT(AGENT) | GROUP_BIT(HYPERVISOR))

/* "cri-v1alpha2"; NULL for a number that is none. */
const char *service_group_name(enum service_group group);
/* The group of that name; -EINVAL when there is none. */
int service_group_find(const char *name);

/* What its clients speak. */
enum endpoint_protocol { PROTOCOL_GRPC, PROTOCOL_TTRPC, PROTOCOL_COUNT };

/* "ttrpc"; NULL for a number that is none. */
const char *endpoint_protocol_name(enum endpoint_protocol protocol);
/* -EINVAL when there is none of that name. */
int endpoint_protocol_find(const char *name);

struct boot_endpoint {
	char name[BOOT_ENDPOINT_NAME_MAX];
	char socket[BOOT_SOCKET_MAX]; /* a path, vsock://CID:PORT or serial://PATH */
	uint32_t protocol;	      /* enum endpoint_protocol */
	uint32_t services;	      /* GROUP_BIT */
	uint32_t access;	      /* enum link_access */
	uint32_t uids[BOOT_UIDS_MAX];
	uint32_t n_uids; /* 0: whoever the socket's file mode lets in */
};

/* What a socket of the form vsock://CID:PORT means, where -1 is any CID; -EINVAL
 * for all others. */
int endpoint_vsock(const char *socket, uint32_t *ret_cid, uint32_t *ret_port);
/* PATH of serial://PATH, where PATH is absolute; NULL for all others. */
const char *endpoint_serial(const char *socket);
/* Whether a client of that uid may use it. */
bool endpoint_admits(const struct boot_endpoint *e, uid_t uid);
