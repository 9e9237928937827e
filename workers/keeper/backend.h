/*
 * Who makes a pod's processes: the keeper itself, or an OCI runtime that it
 * executes. Everything around them is the same for both and is the keeper's:
 * namespaces of the pod, control groups and their limits, streams and logs, the
 * status socket with its states, signals, exit codes, and the end.
 *
 * Both hooks that make something leave a process behind that reports through
 * the status socket (process.h). The native one's is the program to be. The
 * other's runs the runtime, and hands over the process that this has made: with
 * STATUS_READY (a container) or STATUS_PROCESS (a command), which carry its
 * number and its pidfd.
 */
#pragma once

#include "workers/keeper/container.h"

struct exec;
struct exec_plan;

struct backend {
	/* Sets pid, pidfd and status of c, and its control group. */
	int (*create)(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m,
		      struct fault *fault);
	/* The same for e; takes the plan's descriptors. */
	int (*exec)(struct exec *e, struct exec_plan *plan, struct fault *fault);
	/* c has ended, or has never come to be: what it left behind goes. */
	void (*ended)(struct container *c);
	/* The pod's last container has ended. May start errands, which are waited
	 * for; is asked again then. */
	void (*pod_ended)(struct keeper *k);
	/* As pidfd_send_signal, to what the process of this pidfd stands for. */
	int (*signal)(int pidfd, int sig);
};

/* container_native.c and exec.c */
int native_create(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m,
		  struct fault *fault);
/* restore.c: native, by criu. */
int restore_create(struct container *c, struct msg_request *r, const Bulkhead__ContainerCreateRequest *m,
		   struct fault *fault);
/* Its process is known: be its parent, and let its maker end. */
int restore_take(struct container *c);
/* Its maker has ended, or it has. */
void restore_over(struct container *c);
int native_exec(struct exec *e, struct exec_plan *plan, struct fault *fault);
int native_signal(int pidfd, int sig);

/* backend.c: that of the pod. */
const struct backend *backend_of(const struct keeper *k);

/* --- what backends share with the rest; container_native.c, container_parts.c --- */

/* The container's own ends of its streams; -1 where it has none. */
int container_streams(struct container *c, const Bulkhead__TaskCreateRequest *t, int stdio[3], struct fault *fault);
/* The same for any process, its pipes and those who read them; for its terminal,
 * which is taken. s may be NULL there. */
int process_pipes(struct keeper *k, struct stdio *s, struct log *l, int stdio[3], struct fault *fault);
int process_terminal(struct stdio *s, struct log *l, int fd, struct fault *fault);
int container_group(struct container *c, const Grpc__Spec *spec, struct fault *fault);
int container_sysctls(const struct container *c, const Grpc__Spec *spec, struct fault *fault);
/* Whose pid namespace it joins; *ret_target stays as it is when it's nobody's. */
int container_pid_target(const struct container *c, const Bulkhead__TaskCreateRequest *t,
			 const struct container **ret_target, struct fault *fault);
bool container_strict_groups(const Grpc__Spec *spec);
bool spec_has_namespace(const Grpc__Spec *spec, const char *type);

/* --- vm/ --- */

extern const struct backend vm_backend;

/* --- oci/ --- */

extern const struct backend oci_backend;

/* Before anything else with a pod of this backend; again by a successor. */
int oci_attach(struct keeper *k, const char *program, struct fault *fault);
/* Reaps what runtimes leave to the keeper; nothing in other pods. */
void oci_reap(struct keeper *k);
