/*
 * Addresses from host-local's store, in that plugin's own format, so that both
 * can share a network: below <data_dir>/<network>/ one file per address in use
 * ("<container>\r\n<interface>"), last_reserved_ip.<set>, and the file lock,
 * which whoever changes something holds by flock.
 *
 * Taking addresses has two steps under one lock, so that the caller can write
 * down what it will own before it owns it:
 *
 *     hostlocal_open(config, network, &store, fault);      locks
 *     hostlocal_pick(&store, config, picked, &n, fault);
 *     record(picked);
 *     hostlocal_reserve(&store, id, ifname, picked, n, fault);
 *     hostlocal_close(&store);                             unlocks
 */
#pragma once

#include "internal/keeper.pb-c.h"
#include "net/address.h"
#include "base/fault.h"

#include <stddef.h>

#define HOSTLOCAL_SETS_MAX 8

struct hostlocal {
	int dir;
	int lock;
	char path[256]; /* for what people read */
};
#define HOSTLOCAL_NONE \
	{ .dir = -1, .lock = -1 }

/* Makes the folder when it's missing and waits for the lock. */
int hostlocal_open(const char *data_dir, const char *network, struct hostlocal *ret_store, struct fault *fault);
void hostlocal_close(struct hostlocal *store);

/* One free address of each set, at most HOSTLOCAL_SETS_MAX. */
int hostlocal_pick(struct hostlocal *store, const Bulkhead__HostLocal *config, struct pod_address *ret_picked,
		   size_t *ret_n, struct fault *fault);
/* All of them or none. */
int hostlocal_reserve(struct hostlocal *store, const char *id, const char *ifname, const struct pod_address *picked,
		      size_t n, struct fault *fault);

/* Gives back those addresses that (id, ifname) holds; others are left alone,
 * what is gone already is success. */
int hostlocal_release(const char *data_dir, const char *network, const char *id, const char *ifname,
		      const struct address *addresses, size_t n, struct fault *fault);
