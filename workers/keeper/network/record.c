/* Reads and writes the record; knows nothing of what it means. */
#include "record.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>

#define RECORD_SIZE_MAX (1 << 20)

static int open_run_dir(const char *run_dir, struct fault *fault) {
	int fd = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? fault_errno(fault, errno, "open the pod's folder \"%s\"", run_dir) : fd;
}

int record_write(const char *run_dir, const Bulkhead__NetworkRecord *record, struct fault *fault) {
	CLEANUP_FD int dir = open_run_dir(run_dir, fault);
	if (dir < 0)
		return dir;
	size_t size = bulkhead__network_record__get_packed_size(record);
	if (size > RECORD_SIZE_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "network record of %zu bytes; at most %d are kept",
				 size, RECORD_SIZE_MAX);
	CLEANUP_FREE uint8_t *data = malloc(size + 1);
	if (!data)
		return fault_errno(fault, ENOMEM, "write the network record in \"%s\"", run_dir);
	bulkhead__network_record__pack(record, data);
	CLEANUP_FD int fd = openat(dir, "network.new", O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : fd_write_all(fd, data, size);
	if (r == 0 && renameat(dir, "network.new", dir, "network") < 0)
		r = -errno;
	return r < 0 ? fault_errno(fault, r, "write the network record in \"%s\"", run_dir) : 0;
}

int record_read(const char *run_dir, Bulkhead__NetworkRecord **ret_record, struct fault *fault) {
	*ret_record = NULL;
	CLEANUP_FD int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int fd = dir < 0 ? -1 : openat(dir, "network", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : fault_errno(fault, errno, "open \"%s/network\"", run_dir);
	CLEANUP_FREE char *data = NULL;
	size_t size;
	int r = fd_read_all(fd, RECORD_SIZE_MAX, &data, &size);
	if (r < 0)
		return fault_errno(fault, r, "read \"%s/network\"", run_dir);
	*ret_record = bulkhead__network_record__unpack(NULL, size, (uint8_t *)data);
	if (*ret_record && (*ret_record)->plan)
		return 0;
	if (*ret_record)
		bulkhead__network_record__free_unpacked(*ret_record, NULL);
	*ret_record = NULL;
	return fault_set(fault, FAULT_DATA_LOSS, "\"%s/network\" is no network record", run_dir);
}

int record_remove(const char *run_dir, struct fault *fault) {
	CLEANUP_FD int dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? 0 : fault_errno(fault, errno, "open the pod's folder \"%s\"", run_dir);
	unlinkat(dir, "network.new", 0); /* of a writer that died */
	if (unlinkat(dir, "network", 0) < 0 && errno != ENOENT)
		return fault_errno(fault, errno, "remove \"%s/network\"", run_dir);
	return 0;
}

int record_addresses(const Bulkhead__NetworkRecord *record, struct pod_address ret_addresses[RECORD_ADDRESSES_MAX],
		     size_t *ret_n) {
	if (record->n_addresses > RECORD_ADDRESSES_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < record->n_addresses; i++) {
		const Bulkhead__NetworkAddress *a = record->addresses[i];
		struct pod_address *p = &ret_addresses[i];
		if (!address_set(&p->address, &a->address, a->prefix, false) ||
		    !address_set(&p->gateway, &a->gateway, 0, true))
			return -EBADMSG;
		p->gateway.prefix = (uint8_t)address_bits(&p->gateway);
	}
	*ret_n = record->n_addresses;
	return 0;
}
