#include "workers/keeper/backend.h"

#include "workers/keeper/sys.h"

static void nothing_left(struct container *c) {
}

static void nothing_to_end(struct keeper *k) {
}

int native_signal(int pidfd, int sig) {
	return sys_pidfd_send_signal(pidfd, sig);
}

static const struct backend native = {
	.create = native_create,
	.exec = native_exec,
	.ended = nothing_left,
	.pod_ended = nothing_to_end,
	.signal = native_signal,
};

const struct backend *backend_of(const struct keeper *k) {
	return k->pod.vm ? &vm_backend : k->pod.runtime ? &oci_backend : &native;
}
