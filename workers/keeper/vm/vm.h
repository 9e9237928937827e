/*
 * Pods in virtual machines: QEMU boots a kernel whose init is our agent, or
 * user-mode Linux is one (its VMM), and runs the pod's containers by the agent's API (proto/kata/agent.proto).
 *
 *   vm.c         the keeper's side: the machine's life, its containers
 *   questions.c  what the keeper asks of the relay
 *   stand_in.c   a process of the host for each process of the guest
 *   share.c      what of the host a container sees, and its specification there
 *   machine.c    a VMM and virtiofsd; each VMM is a machine_*.c
 *   vhost.c      what virtiofsd doesn't tell user-mode Linux
 *   network.c    the pod's network devices, continued in the guest
 *   relay.c      the process that talks with the guest
 *   guest.c      one process of the guest, as the relay sees it
 *   oom.c        what was killed in the guest for want of memory, in the relay and the keeper
 *   jail.c       what relay and stand-ins may do
 *
 *   keeper ──control── relay ──serial line──── agent          (in the guest)
 *     │                  │ parent of the VMM and virtiofsd
 *   stand-in ──channel───┘
 *
 * The rest of the keeper knows processes: pid, pidfd, streams, exit code. So
 * each process of the guest has a stand-in on the host, which does nothing but
 * pass signals on and end as the other has ended. When a stand-in is killed,
 * its guest process is.
 *
 * A channel is a socket of packets, made by the keeper, which gives one end to
 * the relay over the control socket. It is a stand-in's for life, or the
 * keeper's for one question.
 *
 * Who ends what: VMM and virtiofsd die with the relay. The relay ends when the
 * guest has ended, or when nobody has the other end of the control socket any
 * more, which is in the keeper and in the vault: a keeper's successor finds
 * everything as it was. Stand-ins whose relay is gone end with status 255.
 */
#pragma once

#include "base/fault.h"
#include "kata/agent.pb-c.h"
#include "workers/keeper/container.h"
#include "workers/keeper/process.h"

#include <limits.h>
#include <sys/uio.h>

struct exec_plan;

/* --- packets --- */

enum vm_kind {
	/* to the relay, each the first one of its channel */
	VM_CREATE = 1, /* packed grpc.CreateContainerRequest, with the streams */
	VM_EXEC,       /* packed grpc.ExecProcessRequest, with the streams */
	VM_STATS,      /* of .container */
	VM_FREEZE,     /* .container; value: 1 pause, 0 resume */
	VM_UPDATE,     /* packed grpc.UpdateContainerRequest */
	VM_STOP,       /* end the guest; no channel, but on the control socket itself */
	VM_OOM,	       /* there, too: tell all; and from the relay: of .container, value: how often so far */
	/* and of a stand-in's channel */
	VM_START,
	VM_SIGNAL, /* value: its number */
	VM_RESIZE, /* columns, rows */
	/* from it; on the control socket VM_LED says that vm_network_make is done, then
	 * VM_DONE or VM_FAULT how the boot went */
	VM_LED,
	VM_DONE,
	VM_FAULT, /* value: enum fault_code; the text follows */
	VM_EXIT,  /* value: the status */
	VM_FIGURES,
};

struct vm_figures {
	uint64_t cpu_ns, memory, memory_file, memory_anon, memory_inactive_file, memory_limit, swap, page_faults,
	    major_page_faults, pids;
};

struct vm_packet {
	uint32_t kind;
	int32_t value;
	uint32_t streams; /* bit per stream whose descriptor comes along */
	uint32_t terminal;
	uint32_t columns, rows;
	char container[80], process[32];
	struct vm_figures figures;
};

#define VM_PAYLOAD_MAX ((size_t)160 * 1024)
#define VM_FDS_MAX 3
#define VM_FDS_MOST 8 /* in any message */
#define VM_UNKNOWN_EXIT 255

/* Blocks where the socket does. */
int vm_send(int socket, const struct vm_packet *p, const void *payload, size_t size, const int *fds, size_t n_fds);
/* 1, 0 at the end of file, or a negative errno. payload (may be NULL) has
 * VM_PAYLOAD_MAX bytes; fds VM_FDS_MAX. */
int vm_receive(int socket, struct vm_packet *ret_packet, void *payload, size_t *ret_size, int fds[VM_FDS_MAX],
	       size_t *ret_n_fds);
/* Any message, as sendmsg and recvmsg; at most VM_FDS_MOST descriptors. What is
 * received is the caller's, more than there is room for is closed. */
ssize_t vm_send_raw(int socket, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds);
ssize_t vm_receive_raw(int socket, const struct iovec *iov, size_t n_iov, int *fds, size_t room, size_t *ret_n_fds);
int vm_send_fault(int socket, const struct fault *fault);

/* --- what there is of a pod's machine --- */

typedef void (*vm_booted_fn)(struct keeper *k, const struct fault *fault);

struct vm {
	struct keeper *keeper;
	pid_t pid; /* the relay */
	int pidfd, control;
	int mounts; /* the mount namespace that virtiofsd shows to the guest */
	struct cgroup group;
	vm_booted_fn booted;
	struct loop_source *boot_source, *boot_timer;
	struct loop_source *exit_source, *patience, *oom_source, *oom_later;
	bool over, stopping;
	bool led;	    /* the packets of a client's network namespace */
	char *agent_socket; /* from malloc; NULL: the relay has the agent. A successor doesn't know */
};

/* Where a container's files are: on the host's side in the relay's mount
 * namespace, below the pod's folder; and in the guest. */
#define VM_FOLDER "vm"
#define VM_SHARED_NAME "shared"
#define VM_SHARED_GUEST "/run/kata-containers/shared/containers"
#define VM_SHM_GUEST "/run/kata-containers/sandbox/shm"
#define VM_SHARE_TAG "kataShared"
#define VM_PORT "agent.0"

/* --- stand_in.c --- */

/* What one is born with; descriptors are its own. */
struct vm_birth {
	struct container *container;
	const struct vm *vm;
	const Grpc__Spec *spec; /* of a container, else NULL */
	const Grpc__Process *process;
	const struct user_ids *user; /* NULL: resolve in the root */
	const char *name;	     /* of a command */
	int channel, status, root;
	const int *volumes; /* detached mounts */
	size_t n_volumes;
	int stdio[3];
	uint32_t columns, rows;
	bool wait; /* for process_go */
	bool strict_groups;
};

void vm_stand_in(void *birth);
/* The signal by which others are asked for, with the number as its value: a
 * stand-in that were killed or stopped itself couldn't pass that on. */
#define VM_SIGNAL_CARRIER SIGRTMAX

/* --- share.c; in a stand-in, before it gives up its rights --- */

/* Attaches what the specification wants of the host; afterwards the process is
 * in the relay's mount namespace. *ret_spec is for the guest, from malloc and of
 * parts of the given one. */
int vm_share(const struct vm_birth *b, Grpc__Spec **ret_spec, struct fault *fault);
/* Takes a container's away. */
void vm_unshare(void *container);

/* --- network.c, machine.c; in the relay, before it gives up its rights --- */

#define VM_LINKS_MAX 4

struct vm_network {
	Types__Interface links[VM_LINKS_MAX];
	int taps[VM_LINKS_MAX];
	size_t n_links;
	Types__Route **routes;
	size_t n_routes;
};

/* headers: packets come and go with virtio-net's. When it fails nothing of it stays but the taps, which go with the
 * process. */
int vm_network_make(bool headers, struct vm_network *ret_network, struct fault *fault);
/* In the pod's network namespace: its devices have their packets back. */
void vm_network_unmake(void);

struct vm_machine {
	int agent;	/* the guest's serial line, non-blocking */
	int console;	/* what it and the VMM say, non-blocking */
	int vmm, files; /* pidfds */
	bool announces; /* the line is the host's when something came from it */
	/* -1, or of vhost.c: listening for the VMM, and connected with virtiofsd */
	int front, back;
};

/* In sentences, such as "QEMU". */
const char *vm_machine_name(const struct boot_vm *c);
bool vm_machine_headers(const struct boot_vm *c);
/* With an agent_socket the VMM listens there, and agent is its first connection. */
int vm_machine_start(const struct keeper *k, const struct vm_network *n, struct vm_machine *ret_machine,
		     struct fault *fault);

/* --- relay.c --- */

struct vm_relay_birth {
	struct vm *vm;
	int control;
};

void vm_relay(void *birth);

/* --- jail.c --- */

enum vm_jail { VM_JAIL_STAND_IN, VM_JAIL_RELAY };
/* Another user, no capabilities, and the calls that the kind needs. */
int vm_jail_enter(enum vm_jail kind, const struct boot_vm *config, struct fault *fault);

/* --- questions.c --- */

/* -EPIPE when the machine is gone. */
int vm_channel_open(const struct vm *vm, int *ret_channel);
/* The next packet on a channel, or on the control socket; a VM_FAULT is the
 * fault that it carries. */
int vm_answer_await(int fd, int limit_ms, struct vm_packet *ret_packet, struct fault *fault);
/* What the guest's kernel counts, in the arena, its figures under the kernel's
 * names; only the time, where the guest doesn't say it. NULL when out of memory. */
Bulkhead__TaskStats *vm_stats(const struct container *c, struct arena *a);
int vm_freeze(struct container *c, bool frozen, struct fault *fault);
int vm_update(struct container *c, const Grpc__LinuxResources *resources, struct fault *fault);

/* --- vm.c --- */

/* The pod is of this backend: there is a k->pod.vm. */
int vm_choose(struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault);
/* Boots. booted is called once the agent answers, or with the reason why it
 * doesn't; never from within. */
int vm_start(struct keeper *k, vm_booted_fn booted, struct fault *fault);
/* For a successor. Takes the descriptors; DATA_LOSS when the machine is gone. */
int vm_adopt(struct keeper *k, int control, int mounts, int pidfd, struct fault *fault);
/* Of a pod that never came up. */
void vm_abort(struct keeper *k);
/* False while it is ending; then pod_teardown_continue is called. */
bool vm_ended(struct keeper *k);
/* Where its processes are, whether the machine is known or not. */
void vm_group(const struct keeper *k, char ret_path[CGROUP_PATH_MAX]);
/* The last of it; what the guest shared is in no mount namespace but its own. */
void vm_folder_remove(const struct keeper *k);
/* oom.c. Kills in the guest are told from now on; those that were said are taken now. */
void vm_ooms_watch(struct vm *vm);
void vm_ooms_take(struct keeper *k);
