/*
 * <run_dir>/network: what a pod holds of its network, as a packed
 * NetworkRecord. Replaced by rename, so a reader finds the old one or the new
 * one whole.
 */
#pragma once

#include "internal/keeper.pb-c.h"
#include "net/address.h"
#include "base/fault.h"

#include <stddef.h>

int record_write(const char *run_dir, const Bulkhead__NetworkRecord *record, struct fault *fault);
/* *ret_record is NULL when there is none; free it with free_unpacked. */
int record_read(const char *run_dir, Bulkhead__NetworkRecord **ret_record, struct fault *fault);
int record_remove(const char *run_dir, struct fault *fault);

#define RECORD_ADDRESSES_MAX 16

/* The record's addresses as values; -EBADMSG when one of them is none. */
int record_addresses(const Bulkhead__NetworkRecord *record, struct pod_address ret_addresses[RECORD_ADDRESSES_MAX],
		     size_t *ret_n);
