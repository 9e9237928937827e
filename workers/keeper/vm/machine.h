/*
 * Inside of a machine: what its VMM gets (machine.c) and is (machine_qemu.c,
 * machine_uml.c). Each of them is one row: what it is called, what it needs, how it
 * begins.
 */
#pragma once

#include "boot/boot.h"
#include "workers/keeper/vm/vm.h"

/* What the guest's kernel is told by either. */
#define MACHINE_LINE "quiet panic=-1 agent.server_addr=serial://"

struct machine_birth {
	const struct boot_vm *config;
	const struct vm_network *network;
	const char *id;	    /* the pod's */
	const char *folder; /* of the machine, on the host */
	const char *shared; /* the mount there of which virtiofsd serves what is below */
	int agent, console; /* the guest's ends */
	bool listens;	    /* agent is a listening socket */
};

struct vmm {
	const char *name; /* in sentences */
	bool headers;	  /* its taps speak of virtio-net's headers */
	bool announces;	  /* the guest says when its line may be used */
	bool listens;	  /* its line may be a listening socket */
	/* Says which file that the configuration names is missing. */
	int (*check)(const struct boot_vm *c, struct fault *fault);
	/* Its descriptors in the machine: those of the process, and, where it needs
	 * them, of vhost.c. */
	int (*start)(const struct machine_birth *b, struct vm_machine *m, struct fault *fault);
};

extern const struct vmm vmm_qemu, vmm_uml;

/* --- arguments --- */

#define ARGUMENTS_MAX 96

struct arguments {
	char *list[ARGUMENTS_MAX];
	size_t n;
	bool failed;
};

void arguments_add(struct arguments *a, const char *format, ...) PRINTF(2, 3);
/* words ends with NULL. */
void arguments_add_all(struct arguments *a, const char *const *words);

/* --- files --- */

/* FAILED_PRECONDITION with the key and its path when it can't be used so. */
int machine_file_check(const char *key, const char *path, int mode, struct fault *fault);
int machine_file_open(const char *key, const char *path, int *ret_fd, struct fault *fault);

/* --- sockets in the machine's folder --- */

#define MACHINE_FILES "files.sock" /* where virtiofsd listens */
int machine_listen(const char *folder, const char *name, int *ret_listener, struct fault *fault);
int machine_connect(const char *folder, const char *name, int *ret_socket, struct fault *fault);

/* --- children: they die with the relay --- */

/* As clone3; namespaces are its flags. */
int machine_child_make(uint64_t namespaces, pid_t *ret_pid, int *ret_pidfd, struct fault *fault);
/* In it: it says what it says to the console, and has nothing else open after the
 * next execve but what is told to stay. relay is a pidfd of the parent's. */
void machine_child_begin(int relay, int console);
void machine_stay_open(int fd);
/* Another user, in these groups; no new privileges. */
int machine_user(const struct boot_vm *c, const gid_t *groups, size_t n);
/* Its end, with what it couldn't do. */
_Noreturn void machine_child_fail(const char *what, int error);
extern char *const machine_environment[];
_Noreturn void machine_execute(struct arguments *a);
