/*
 * A sandbox in a virtual machine: a bare pod as one of namespaces is, whose
 * keeper boots a guest in it (workers/keeper/vm/vm.h). The network namespace is
 * the client's still, or has nothing but its loopback: the devices in it are
 * continued in the guest. What can't be the guest's is refused here; what a
 * path leads to, by the keeper.
 */
#include "workers/metadata/csandbox/csandbox.h"

#include <errno.h>
#include <string.h>
#include <sys/un.h>

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

int vm_lend_agent(const struct metadata *m, struct arena *a, Bulkhead__SandboxStartRequest *pod, struct fault *fault) {
	struct sockaddr_un address;
	char id[ID_SIZE];
	if (!*pod->runtime)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "sandbox \"%.76s\": only a virtual machine has an agent", pod->name);
	id_random(id);
	pod->id = arena_strdup(a, id);
	pod->agent_socket = arena_printf(a, "%s/pods/%s/agent", m->config->run_root, id);
	if (!pod->id || !pod->agent_socket)
		return fault_errno(fault, ENOMEM, "make its pod");
	if (strlen(pod->agent_socket) >= sizeof(address.sun_path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "sandbox \"%.76s\": run_root \"%.100s\" is too long for a socket in its pods' folders",
				 pod->name, m->config->run_root);
	return 0;
}
