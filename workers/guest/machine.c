/* The guest's clock, random numbers and swap. */
#include "device.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/swap.h>
#include <sys/time.h>

#define SEED_MAX 65536
#define USEC_PER_SEC 1000000

int guest_clock_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__SetGuestDateTimeRequest *q = (const Grpc__SetGuestDateTimeRequest *)request;
	const struct timeval t = { .tv_sec = q->sec, .tv_usec = q->usec };
	if (q->sec < 0 || q->usec < 0 || q->usec >= USEC_PER_SEC)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%lld s and %lld us are no time", (long long)q->sec,
				 (long long)q->usec);
	return settimeofday(&t, NULL) < 0 ? fault_errno(fault, errno, "set it") : 0;
}

/* The data counts as random in full, and is in use at once. */
int guest_reseed_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__ReseedRandomDevRequest *q = (const Grpc__ReseedRandomDevRequest *)request;
	if (q->data.len == 0 || q->data.len > SEED_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "expected 1 to %d bytes, not %zu", SEED_MAX,
				 q->data.len);
	CLEANUP_FD int fd = open("/dev/random", O_RDWR | O_CLOEXEC);
	int bits = (int)(q->data.len * 8);
	int r = fd < 0 ? -errno : fd_write_all(fd, q->data.data, q->data.len);
	if (r == 0 && (ioctl(fd, RNDADDTOENTCNT, &bits) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0))
		r = -errno;
	return r < 0 ? fault_errno(fault, r, "seed the random numbers") : 0;
}

/* --- swap --- */

static int swap_on(const char *path, struct fault *fault) {
	return swapon(path, 0) < 0 ? fault_errno(fault, errno, "swap to \"%s\"", path) : 0;
}

int guest_swap_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const Grpc__AddSwapRequest *q = (const Grpc__AddSwapRequest *)request;
	char slots[64] = "";
	const char *path;
	size_t n = 0;
	for (size_t i = 0; i < q->n_pcipath; i++) {
		if (q->pcipath[i] > 0x1f || n + 4 > sizeof(slots))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "the path of %zu PCI slots is none",
					 q->n_pcipath);
		n += (size_t)snprintf(slots + n, sizeof(slots) - n, "%s%02x", i ? "/" : "", q->pcipath[i]);
	}
	int r = device_pci_block(w, slots, &path, fault);
	return r < 0 ? r : swap_on(path, fault);
}

int guest_swap_path_run(struct work *w, const ProtobufCMessage *request, struct fault *fault) {
	const char *path = ((const Grpc__AddSwapPathRequest *)request)->path;
	int r = device_node(w, path, fault);
	return r < 0 ? r : swap_on(path, fault);
}
