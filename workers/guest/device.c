/*
 * Devices of the guest as its host names them: by a path of PCI slots, a SCSI
 * address, or a node in /dev. One that was just plugged in takes a moment to
 * appear, so each is waited for, agent_hotplug_timeout_s at most.
 */
#include "device.h"

#include "base/clock.h"
#include "base/fd.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#define LOOK_PERIOD (20 * NS_PER_MS)
#define SLOT_MAX 0x1f

static void dir_close(DIR **d) {
	if (*d)
		closedir(*d);
}

/* The first entry of a folder that begins so; -ENOENT: none (yet). */
static int entry_find(const char *folder, const char *prefix, char ret_name[NAME_MAX + 1]) {
	CLEANUP(dir_close) DIR *d = opendir(folder);
	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0) {
			snprintf(ret_name, NAME_MAX + 1, "%s", e->d_name);
			return 0;
		}
	return -ENOENT;
}

/* Asks again until it is there. */
static int await(const struct work *w, int (*look)(void *ctx), void *ctx) {
	int64_t deadline = clock_mono() + w->config->agent_hotplug_timeout_s * NS_PER_SEC;
	int r;
	while ((r = look(ctx)) == -ENOENT && clock_mono() < deadline)
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_PERIOD }, NULL);
	return r;
}

static int absent(const struct work *w, int r, const char *what, const char *name, struct fault *fault) {
	if (r == -ENOENT)
		return fault_set(fault, FAULT_NOT_FOUND, "no %s \"%s\" has appeared within %u s", what, name,
				 w->config->agent_hotplug_timeout_s);
	return fault_errno(fault, r, "look for the %s \"%s\"", what, name);
}

/* --- PCI --- */

struct pci {
	const struct work *w;
	const char *slots;
	const char *class; /* "block", "net": whose name is asked for */
	char name[NAME_MAX + 1];
};

/* Takes "02" or "02.1" off *p: the next device on the way. */
static int slot_next(const char **p, char ret_slot[8]) {
	char *end;
	unsigned long slot = strtoul(*p, &end, 16), function = 0;
	if (!isxdigit((unsigned char)**p) || end - *p > 2 || slot > SLOT_MAX)
		return -EINVAL;
	if (*end == '.') {
		const char *f = end + 1;
		function = strtoul(f, &end, 8);
		if (!isdigit((unsigned char)*f) || function > 7)
			return -EINVAL;
	}
	if (*end != '/' && *end != '\0')
		return -EINVAL;
	snprintf(ret_slot, 8, "%02lx.%lu", slot, function);
	*p = *end ? end + 1 : end;
	return 0;
}

static bool slots_valid(const char *slots) {
	char slot[8];
	do
		if (slot_next(&slots, slot) < 0)
			return false;
	while (*slots);
	return true;
}

/* A path in sysfs grows with each bridge; a bridge says which bus is behind it. */
static int pci_folder(const struct pci *x, char *path, size_t size) {
	char bus[NAME_MAX + 1] = "0000:00", slot[8];
	const char *p = x->slots;
	snprintf(path, size, "%s/devices/pci0000:00", x->w->config->agent_sysfs);
	do {
		size_t n = strlen(path);
		slot_next(&p, slot);
		snprintf(path + n, size - n, "/%.32s:%s", bus, slot);
		if (!*p)
			return 0;
		n = strlen(path);
		snprintf(path + n, size - n, "/pci_bus");
		int r = entry_find(path, "", bus);
		if (r < 0)
			return r;
		path[n] = '\0';
	} while (*p);
	return 0;
}

static int pci_look(void *ctx) {
	struct pci *x = ctx;
	char path[PATH_MAX], virtio[NAME_MAX + 1];
	int r = pci_folder(x, path, sizeof(path));
	if (r == 0)
		r = entry_find(path, "virtio", virtio);
	if (r < 0)
		return r;
	size_t n = strlen(path);
	snprintf(path + n, sizeof(path) - n, "/%s/%s", virtio, x->class);
	return entry_find(path, "", x->name);
}

static int pci_find(const struct work *w, const char *slots, const char *class, struct pci *ret_pci,
		    struct fault *fault) {
	*ret_pci = (struct pci){ .w = w, .slots = slots, .class = class };
	if (!slots_valid(slots))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no path of PCI slots, like \"02/03\"",
				 slots);
	int r = await(w, pci_look, ret_pci);
	return r < 0 ? absent(w, r, "PCI device", slots, fault) : 0;
}

int device_network(const struct work *w, const char *slots, struct fault *fault) {
	struct pci x;
	return pci_find(w, slots, "net", &x, fault);
}

/* --- nodes --- */

static int node_look(void *ctx) {
	struct stat st;
	if (stat(ctx, &st) < 0)
		return -errno;
	return S_ISBLK(st.st_mode) ? 0 : -ENOTBLK;
}

int device_node(const struct work *w, const char *path, struct fault *fault) {
	if (strncmp(path, "/dev/", 5) != 0 || !path_clean(path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no device's path", path);
	int r = await(w, node_look, (void *)(uintptr_t)path);
	if (r == -ENOTBLK)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no block device", path);
	return r < 0 ? absent(w, r, "device", path, fault) : 0;
}

static int name_to_node(struct work *w, const char *name, const char **ret_path, struct fault *fault) {
	char *path = arena_printf(&w->arena, "/dev/%s", name);
	if (!path)
		return no_memory(fault);
	*ret_path = path;
	return device_node(w, path, fault);
}

int device_pci_block(struct work *w, const char *slots, const char **ret_path, struct fault *fault) {
	struct pci x;
	int r = pci_find(w, slots, "block", &x, fault);
	return r < 0 ? r : name_to_node(w, x.name, ret_path, fault);
}

/* --- SCSI --- */

struct scsi {
	const struct work *w;
	unsigned id, lun;
	char name[NAME_MAX + 1];
};

static int scsi_look(void *ctx) {
	struct scsi *x = ctx;
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/bus/scsi/devices/0:0:%u:%u/block", x->w->config->agent_sysfs, x->id, x->lun);
	return entry_find(path, "", x->name);
}

/* Tells every adapter to look for it; there may be none that can. */
static void scsi_scan(const struct scsi *x) {
	char hosts[PATH_MAX], path[PATH_MAX], text[32];
	snprintf(hosts, sizeof(hosts), "%s/class/scsi_host", x->w->config->agent_sysfs);
	CLEANUP(dir_close) DIR *d = opendir(hosts);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%.2048s/%s/scan", hosts, e->d_name);
		snprintf(text, sizeof(text), "0 %u %u", x->id, x->lun);
		sysfs_write(path, text);
	}
}

int device_scsi(struct work *w, const char *address, const char **ret_path, struct fault *fault) {
	struct scsi x = { .w = w };
	int end = 0;
	if (sscanf(address, "%3u:%5u%n", &x.id, &x.lun, &end) != 2 || address[end] || x.id > 255)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "\"%s\" is no SCSI address ID:LUN", address);
	scsi_scan(&x);
	int r = await(w, scsi_look, &x);
	return r < 0 ? absent(w, r, "SCSI disk", address, fault) : name_to_node(w, x.name, ret_path, fault);
}

/* --- sysfs --- */

int sysfs_write(const char *path, const char *text) {
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int sysfs_read(const char *path, char *ret_text, size_t size) {
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret_text, size - 1);
	if (n < 0)
		return -errno;
	ret_text[n] = '\0';
	ret_text[strcspn(ret_text, "\n")] = '\0';
	return 0;
}

/* --- a container's devices --- */

static int by_pci(struct work *w, const Grpc__Device *d, const char **ret_path, struct fault *fault) {
	return device_pci_block(w, d->id, ret_path, fault);
}
static int by_path(struct work *w, const Grpc__Device *d, const char **ret_path, struct fault *fault) {
	*ret_path = d->vm_path;
	return device_node(w, d->vm_path, fault);
}
static int by_scsi(struct work *w, const Grpc__Device *d, const char **ret_path, struct fault *fault) {
	return device_scsi(w, d->id, ret_path, fault);
}

static const struct {
	const char *type;
	int (*find)(struct work *w, const Grpc__Device *d, const char **ret_path, struct fault *fault);
} types[] = {
	{ "blk", by_pci },
	{ "mmioblk", by_path },
	{ "nvdimm", by_path },
	{ "scsi", by_scsi },
};

const char *device_type(size_t i) {
	return i < ARRAY_SIZE(types) ? types[i].type : NULL;
}

static int device_find(struct work *w, const Grpc__Device *d, const char **ret_path, struct fault *fault) {
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (strcmp(types[i].type, d->type) == 0)
			return types[i].find(w, d, ret_path, fault);
	if (strncmp(d->type, "vfio", 4) == 0)
		return fault_set(fault, FAULT_UNIMPLEMENTED, "this agent has no devices of type \"%s\"", d->type);
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "there is no device type \"%s\"", d->type);
}

static int device_fill(struct work *w, const Grpc__Device *d, Bulkhead__GuestDevice *ret, struct fault *fault) {
	const char *path;
	struct stat st;
	int r = device_find(w, d, &path, fault);
	if (r < 0)
		return r;
	if (stat(path, &st) < 0)
		return fault_errno(fault, errno, "look at %s", path);
	ret->container_path = d->container_path;
	ret->path = (char *)(uintptr_t)path;
	ret->major = (int64_t)major(st.st_rdev);
	ret->minor = (int64_t)minor(st.st_rdev);
	return 0;
}

int guest_devices_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Bulkhead__GuestDevicesRequest *q = (const Bulkhead__GuestDevicesRequest *)request;
	Bulkhead__GuestDevicesReply *reply =
	    ARENA_NEW(&w->arena, Bulkhead__GuestDevicesReply, BULKHEAD__GUEST_DEVICES_REPLY__INIT);
	Bulkhead__GuestDevice **list = arena_zalloc(&w->arena, (q->n_devices + 1) * sizeof(*list));
	if (!reply || !list)
		return no_memory(fault);
	for (size_t i = 0; i < q->n_devices; i++) {
		list[i] = ARENA_NEW(&w->arena, Bulkhead__GuestDevice, BULKHEAD__GUEST_DEVICE__INIT);
		int r = list[i] ? device_fill(w, q->devices[i], list[i], fault) : no_memory(fault);
		if (r < 0)
			return fault_prefix(fault, r, "device \"%s\" (%s)", q->devices[i]->id, q->devices[i]->type);
	}
	reply->devices = list;
	reply->n_devices = q->n_devices;
	w->reply = &reply->base;
	return 0;
}
