/*
 * A sandbox in a virtual machine: a bare pod as one of namespaces is, whose
 * keeper boots a guest in it (workers/keeper/vm/vm.h). The network namespace is
 * the client's still, or has nothing but its loopback: the devices in it are
 * continued in the guest. What can't be the guest's is refused here; what a
 * path leads to, by the keeper.
 */
#include "workers/metadata/csandbox/csandbox.h"

#define IS_HOSTS(mode) ((mode) == BULKHEAD__NAMESPACE_MODE__NODE)

int vm_fill(struct arena *a, const Bulkhead__Object *o, const Bulkhead__CsandboxWish *w,
	    Bulkhead__SandboxStartRequest *pod, struct fault *fault) {
	int r = namespaces_fill(a, o, w, pod, fault);
	if (r < 0)
		return r;
	if (IS_HOSTS(pod->network) || IS_HOSTS(pod->ipc) || IS_HOSTS(pod->uts))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "%s: a sandbox in a virtual machine can't use the host's network, IPC or host name",
				 w->config ? "options" : "spec");
	if (pod->n_sysctls)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "options: sysctls: those of a virtual machine are its guest's");
	return 0;
}
