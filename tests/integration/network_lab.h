/*
 * A machine for network tests: the test program moves into namespaces of its
 * own (so that the real machine's network and /var/lib/cni are untouched), and
 * "hosts" are child processes with a network namespace each, which attach,
 * detach, serve and ask when told.
 */
#pragma once

#include "workers/keeper/network/network.h"
#include "workers/task/cni/cni.h"

#include <stdbool.h>
#include <sys/types.h>

struct lab {
	char root[64];			   /* on a tmpfs of its own; conf/, cache/, bin/ below */
	char conf[80], cache[80], bin[80]; /* bin: plugins of the test's own */
	struct cni *cni;
};

/* False with a reason when this machine can't. */
bool lab_open(struct lab *lab, const char **ret_reason);
void lab_close(struct lab *lab);
/* Replaces the only network configuration. */
void lab_configure(struct lab *lab, const char *json);

struct lab_pod {
	pid_t pid;
	int control;
	char id[65], run_dir[128];
};

struct lab_answer {
	int result;
	struct network_attached attached;
	struct fault fault;
	char text[256];
	int64_t cpu_ns, wall_ns;
};

/* A process in a fresh network namespace; it doesn't attach yet. */
void lab_pod_start(struct lab *lab, struct lab_pod *pod, const char *id);
/* The process and with it the namespace end. */
void lab_pod_end(struct lab_pod *pod);
/* SIGKILL instead. */
void lab_pod_kill(struct lab_pod *pod);

void lab_attach(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports,
		struct lab_answer *ret_answer);
/* The same in two halves, so that several pods do it at once. */
void lab_attach_begin(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports);
void lab_detach_begin(struct lab_pod *pod);
void lab_wait(struct lab_pod *pod, struct lab_answer *ret_answer);
void lab_detach(struct lab_pod *pod, struct lab_answer *ret_answer);
/* Kills the pod's process when it enters its system call number `stop` (from 1)
 * of an attach, or of a detach; false when it had finished before that. It is
 * waited for in both cases, the pod is ended. */
bool lab_attach_killed(struct lab *lab, struct lab_pod *pod, const Bulkhead__PortMapping *ports, size_t n_ports,
		       unsigned stop);
bool lab_detach_killed(struct lab_pod *pod, unsigned stop);
/* From the test's own process: the pod's namespace is gone. */
void lab_detach_gone(struct lab_pod *pod, struct lab_answer *ret_answer);
/* Runs a shell command in the pod's namespace; its exit status. */
int lab_run(struct lab_pod *pod, const char *command);
/* Serves "<name> <peer address>" on that port until the pod ends. protocol is
 * IPPROTO_TCP or IPPROTO_UDP. */
bool lab_serve(struct lab_pod *pod, const char *name, int protocol, unsigned port);
/* What the server at address says; "" when it doesn't. pod NULL: from the
 * host. */
const char *lab_ask(struct lab_pod *pod, int protocol, const char *address, unsigned port, char ret_text[256]);

/* Exit status 0 of a shell command on the host. */
bool lab_shell(const char *format, ...) PRINTF(1, 2);
/* Its first line of output. */
const char *lab_output(char ret_text[256], const char *format, ...) PRINTF(2, 3);
/* lab_shell until it's true, at most that long. */
bool lab_soon(int milliseconds, const char *command);
