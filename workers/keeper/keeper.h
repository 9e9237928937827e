/*
 * A keeper: the process that one pod's containers are children of. It lives in
 * the pod's namespaces, does all kernel work of the pod, and survives the death
 * of everything above it.
 *
 * Single-threaded, one loop. Its handlers may block for the time of a few
 * mounts or one CNI plugin: nobody waits for this process but its own pod.
 * What waits for foreign code (a container's set-up, its end) is a child or a
 * pidfd.
 *
 *   keeper.c     the process: birth from the zygote, link, listening, end
 *   pod.c        namespaces and files of the pod; pod_teardown.c: its end
 *   container.c  the containers and how each is made, started, stopped
 *   exec.c       commands run in a container; exec_named.c: containerd's
 *   stdio.c      fifos and files that a process's streams lead to
 *   state.c      what a successor reads; vault.c: the descriptors it gets
 */
#pragma once

#include "base/list.h"
#include "boot/boot.h"
#include "msg/typed.h"
#include "workers/keeper/cgroup.h"
#include "workers/keeper/network/network.h"
#include "workers/keeper/userns.h"

#include <sys/types.h>

/* What the zygote knows and each keeper needs. */
struct keeper_config {
	const struct cgroup_system *cgroups;
	char cgroup_parent[CGROUP_PATH_MAX]; /* of pods that name none */
	size_t log_line_max;
	char criu[BOOT_PATH_MAX], checkpoints[BOOT_PATH_MAX + 16]; /* the program; its folders */
	const struct boot_runtime *runtimes;			   /* the zygote's; those of a pod's birth */
	size_t n_runtimes;
	const struct boot_runtime *log_binaries; /* likewise */
	size_t n_log_binaries;
	const struct boot_vm *vm; /* likewise */
};

struct pod {
	bool up;     /* set up, and not torn down */
	bool inside; /* this process is in its namespaces */
	bool used;   /* a set-up was tried: this process can't be another pod's */
	bool ahead;  /* its namespaces were made before it was known */
	Bulkhead__NamespaceMode network, pid, ipc;
	bool host_uts;
	char *namespace; /* of containerd's API, for programs that log */
	bool bare;	 /* for one container of containerd's API: nothing of the CRI's */
	bool network_ready;
	Bulkhead__SandboxStartReply *started; /* from malloc */
	struct network_host host;
	struct userns userns;
	int shm;  /* detached mount; -1: the host's */
	int init; /* pidfd of the shared pid namespace's init; -1 */
	pid_t init_pid;
	struct cgroup init_cgroup;
	char cgroup_path[CGROUP_PATH_MAX];
	bool cgroup_owned;
	char cgroup_scope[CGROUP_PATH_MAX]; /* of systemd's, for the pod's own processes; empty: none */
	struct msg_request *teardown;	    /* waits for the containers' ends */
	bool ending;
	unsigned teardown_tries;
	char *runtime;	       /* the OCI runtime's program; NULL: the native backend, unless: */
	struct vm *vm;	       /* the virtual machine that the pod is in; NULL: none */
	struct pod_boot *boot; /* while it boots */
	bool runtime_swept;
	struct loop_source *teardown_timer;
};

struct keeper {
	struct loop *loop;
	struct link *link;
	struct keeper_config config;
	char *id;
	char *run_dir;
	uid_t task_uid; /* who may connect, besides root */
	int listener;
	struct loop_source *listening;
	struct pod pod;
	struct list containers;
	struct list graves; /* control groups whose processes aren't gone yet */
	struct loop_source *grave_timer;
	struct list endings; /* struct stdio: ends of streams that are on their way */
	struct list errands; /* children that clean up after a runtime */
	int children;	     /* signalfd of SIGCHLD with such a pod; -1 */
	struct loop_source *children_source;
	int vault[2]; /* [0] ours to write, [1] the queue itself */
	unsigned vault_used;
	int state[2]; /* files that state_save writes to in turns */
	uint64_t state_sequence;
	struct cut *cut; /* the checkpoint of several containers that is under way */
	struct loop_source *cut_timer;
	bool quitting;
	struct loop_source *quit_timer;
};

/* In the child that the zygote forked, with nothing open but the standard
 * streams and link_fd. Without an id it is ahead of its pod. Doesn't return. */
_Noreturn void keeper_main(const struct keeper_config *config, const char *id, const char *run_dir, int link_fd);
/* Ends the process once what was sent has had time to go out. */
void keeper_quit(struct keeper *k);
int keeper_run_dir(struct keeper *k, const char *path, struct fault *fault);
int keeper_listen(struct keeper *k, struct fault *fault);
void keeper_unlisten(struct keeper *k);
/* A group that may still be in use: killed and removed, again and again. Takes
 * over *c. */
void keeper_bury(struct keeper *k, struct cgroup *c);
/* Before a group is made where one was buried: 0 when it is gone for good. */
int keeper_grave_clear(struct keeper *k, const char *path);
bool keeper_graves_empty(const struct keeper *k);

/* --- on_<row>: pod.c, pod_teardown.c, container.c, container_start.c, container_end.c, exec.c,
 *     exec_named.c, process_calls.c, update.c, stats.c, read.c, checkpoint.c,
 *     vault.c, adopt.c --- */

#define TO_KEEPER(name) HANDLER_DECLARE(struct keeper, name)
#include "msg/receivers.def"

/* --- pod.c, pod_teardown.c --- */

/* A set-up that waits for a virtual machine fails. */
void pod_boot_abort(struct keeper *k);
/* in_pod: this process is in the pod's network namespace, which isn't the host's. */
void pod_network_down(struct keeper *k, bool in_pod, struct fault *fault);
/* Called at each end of a container or exec while the pod is ending. */
void pod_teardown_continue(struct keeper *k);
int pod_shm_make(struct pod *p, struct fault *fault);
/* pod.c: makes what a pod can have before it is known. */
int pod_ahead(struct pod *p, struct fault *fault);
/* pod_bare.c: the namespaces of the host that a bare pod names are entered, and
 * what is the host's is known to be; *ret_joined: CLONE_NEW* of those. */
int pod_bare_join(struct pod *p, const Bulkhead__SandboxStartRequest *s, int *ret_joined, struct fault *fault);
/* flag: the CLONE_NEW* that it must be. */
int namespace_open(const char *path, int flag, const char *type, int *ret_fd, struct fault *fault);
/* pod_files.c: hosts, hostname and resolv.conf in the run folder. */
int pod_files_write(const struct keeper *k, const Bulkhead__SandboxStartRequest *s, const char *const *ips,
		    size_t n_ips, struct fault *fault);
void pod_files_remove(const struct keeper *k);
/* init.c: the init of a shared pid namespace, made when first needed. */
int pod_init_ensure(struct keeper *k, struct fault *fault);
/* False while it is still ending: to be called again. */
bool pod_init_end(struct keeper *k);
/* Its control group, made or not. */
void pod_init_group(const struct keeper *k, char ret_path[CGROUP_PATH_MAX]);

/* --- state.c, vault.c, adopt.c --- */

/* Writes <run_dir>/state.*; a failure is logged, and costs a successor what it
 * doesn't know. */
void state_save(struct keeper *k);
/* In the arena; -ENOENT when there is none. */
int state_load(const char *run_dir, struct arena *a, Bulkhead__KeeperSaved **ret_saved, uint64_t *ret_sequence);
void state_forget(struct keeper *k);
/* The pod as the task worker sees it, in the arena; NULL when out of memory. */
Bulkhead__SandboxInfo *state_info(const struct keeper *k, struct arena *a);

/* What a packet of the vault holds. Later packets of the same kind and
 * container replace earlier ones. */
enum vault_kind {
	VAULT_POD = 1,	 /* netns, ipcns, utsns, shm, init, the host's netns, struct vm's: those that the mask says */
	VAULT_CONTAINER, /* pidfd, stdout, stderr, tail, stdin, status, enum stdio_fd's: likewise */
	VAULT_GONE,	 /* the container's descriptors aren't needed any more */
};
#define VAULT_FDS_MAX 12
#define VAULT_STDIO 6 /* the first of them */
#define VAULT_VM 6    /* the same: control, mounts, pidfd */

int vault_init(struct keeper *k);
/* fds[i] < 0 is absent. Duplicates go into the vault. */
void vault_put(struct keeper *k, enum vault_kind kind, const char *id, const int fds[VAULT_FDS_MAX]);
void vault_put_pod(struct keeper *k);
/* Nothing stays in there but what is current: for ends that somebody waits for. */
void vault_renew(struct keeper *k);
