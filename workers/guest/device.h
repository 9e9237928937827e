/* Devices of the guest, waited for; paths live in the work's arena. */
#pragma once

#include "guest.h"

/* A block device behind a virtio PCI device: "02/03" is slot 3 behind the bridge
 * in slot 2. */
int device_pci_block(struct work *w, const char *slots, const char **ret_path, struct fault *fault);
/* "ID:LUN" */
int device_scsi(struct work *w, const char *address, const char **ret_path, struct fault *fault);
/* A block device's node in /dev. */
int device_node(const struct work *w, const char *path, struct fault *fault);
/* A network interface behind a virtio PCI device. */
int device_network(const struct work *w, const char *slots, struct fault *fault);
/* The types of a container's devices; NULL beyond the last. */
const char *device_type(size_t i);

/* Small files of sysfs; what is read ends before its newline. */
int sysfs_write(const char *path, const char *text);
int sysfs_read(const char *path, char *ret_text, size_t size);
