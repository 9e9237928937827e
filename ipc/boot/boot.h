/*
 * What the supervisor gives a worker at birth, and what the two say to each
 * other afterwards: fixed-size structs, nothing to parse.
 *
 * A worker starts with descriptor 3 = a sealed memfd with a struct boot_block,
 * and descriptor 4 = its control socket (SEQPACKET). Everything else (links,
 * listeners) arrives over the control socket. Descriptor 5 is held and never
 * used: it carries the flock by which a new supervisor notices that workers of
 * a killed one are still on their way out. The keepers' zygote has no
 * descriptor 5, since its keepers outlive everybody.
 */
#pragma once

#include "boot/endpoint.h"
#include "msg/roles.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define BOOT_FD_BLOCK 3
#define BOOT_FD_CONTROL 4
#define BOOT_FD_LOCK 5

#define BOOT_PATH_MAX 256
#define BOOT_VISIBLE_MAX 16
#define BOOT_BPF_MAX 1024

#define BOOT_RUNTIMES_MAX 8
#define BOOT_RUNTIME_NAME_MAX 32

/* A program by the name that it is asked for with: an OCI runtime, or one that
 * takes a container's output. */
struct boot_runtime {
	char name[BOOT_RUNTIME_NAME_MAX];
	char path[BOOT_PATH_MAX];
};

/* Who makes control groups: the keepers by files, or systemd as its units. */
enum boot_cgroup_driver { BOOT_CGROUPFS, BOOT_SYSTEMD };

/* What the daemon is: a machine's container host, or the Kata agent of the guest
 * that it runs in. An agent has no image, snapshot or stream worker. */
enum boot_mode { BOOT_HOST, BOOT_AGENT };

/* What runs a virtual machine's processors; auto: KVM where it can be had. */
enum boot_accel { BOOT_ACCEL_AUTO, BOOT_ACCEL_KVM, BOOT_ACCEL_TCG };

/* Which program is a virtual machine. */
enum boot_vmm { BOOT_VMM_QEMU, BOOT_VMM_UML };

/* Pods of the runtime handler "vm"; there is one when kernel isn't empty, and with
 * user-mode Linux, which is its own kernel. In boot_config.runtimes it is the one
 * without a path. */
#define BOOT_VM_HANDLER "vm"
struct boot_vm {
	uint32_t vmm;					   /* enum boot_vmm */
	char qemu[BOOT_PATH_MAX], uml[BOOT_PATH_MAX];	   /* programs */
	char virtiofsd[BOOT_PATH_MAX];			   /* likewise */
	char kernel[BOOT_PATH_MAX], initrd[BOOT_PATH_MAX]; /* files; the initrd has our agent as its init */
	char parameters[BOOT_PATH_MAX];			   /* more of the kernel's */
	uint32_t memory_mb, cpus, accel;		   /* accel: enum boot_accel */
	uint32_t uid, gid;				   /* of the processes that face the guest */
};

/* The configuration, as far as workers need it; read by the supervisor alone. */
struct boot_config {
	uint32_t mode;			    /* enum boot_mode */
	char state_root[BOOT_PATH_MAX];	    /* /var/lib/bulkhead */
	char run_root[BOOT_PATH_MAX];	    /* /run/bulkhead */
	char certs_dir[BOOT_PATH_MAX];	    /* /etc/bulkhead/certs.d: HOST/hosts.toml below */
	char cni_conf_dir[BOOT_PATH_MAX];   /* /etc/cni/net.d */
	char cni_bin_dirs[BOOT_PATH_MAX];   /* colon-separated: /opt/cni/bin:/usr/lib/cni */
	char cni_cache_dir[BOOT_PATH_MAX];  /* /var/lib/cni */
	char cgroup_parent[BOOT_PATH_MAX];  /* default parent of pods: /bulkhead, or bulkhead.slice */
	uint32_t cgroup_driver;		    /* enum boot_cgroup_driver */
	uint32_t log_level;		    /* enum log_level */
	uint32_t max_concurrent_downloads;  /* layers of one pull: 3 */
	uint32_t pull_progress_timeout_s;   /* 300; 0: none */
	uint32_t log_line_max;		    /* 16384 */
	uint32_t stream_idle_timeout_s;	    /* 14400; 0: none */
	char criu[BOOT_PATH_MAX];	    /* /usr/sbin/criu */
	char agent_run_root[BOOT_PATH_MAX]; /* /run/kata-containers: all that an agent mounts and writes is below it */
	char agent_sysfs[BOOT_PATH_MAX];    /* /sys */
	char agent_resolv_conf[BOOT_PATH_MAX]; /* /etc/resolv.conf: the sandbox's is mounted there */
	uint32_t agent_hotplug_timeout_s;      /* how long an agent waits for a device to appear */
	uint32_t agent_ends;		       /* 1: an agent ends with its sandbox, and with the init its machine */
	struct boot_runtime runtimes[BOOT_RUNTIMES_MAX];
	uint32_t n_runtimes;
	struct boot_runtime log_binaries[BOOT_RUNTIMES_MAX];
	uint32_t n_log_binaries;
	struct boot_vm vm;
	struct boot_endpoint endpoints[BOOT_ENDPOINTS_MAX];
	uint32_t n_endpoints;
};

/* One path that a worker sees in its otherwise empty root, at the same place. */
struct boot_visible {
	char path[BOOT_PATH_MAX];
	bool writable;
	bool optional; /* absent on the host: absent in the worker */
	bool as_it_is; /* else nothing there is executable, setuid or a device */
};

#define BOOT_CAPABILITIES_ALL UINT64_MAX
#define BOOT_LIMIT_KEEP (RLIM_INFINITY - 1)

/* One row of the privilege table, resolved to numbers. */
struct boot_privileges {
	uid_t uid;
	gid_t gid;
	/* Effective, permitted and bounding, one bit each; no inheritable and no
	 * ambient ones. BOOT_CAPABILITIES_ALL: whatever the supervisor has. */
	uint64_t capabilities;
	bool empty_root;  /* a root of its own with nothing but visible[] */
	uint64_t unshare; /* CLONE_NEW* flags */
	bool no_new_privs;
	struct boot_visible visible[BOOT_VISIBLE_MAX];
	uint32_t n_visible;
	struct rlimit nofile, memlock, core, nproc; /* rlim_max BOOT_LIMIT_KEEP: as inherited */
	uint8_t opcodes[64];			    /* io_uring; n 0: unrestricted */
	uint32_t n_opcodes;
	struct sock_filter bpf[BOOT_BPF_MAX]; /* seccomp; n 0: none */
	uint32_t n_bpf;
};

#define BOOT_MAGIC 0x62686231 /* "bhb1" */

struct boot_block {
	uint32_t magic, size;
	uint32_t role, instance; /* instance: the API worker's endpoint, else 0 */
	uint32_t restarts;	 /* how often this worker was replaced so far */
	struct boot_config config;
	struct boot_privileges privileges;
};

/* --- the control socket; a message is one packet, descriptors ride with it --- */

enum control_type {
	/* supervisor to worker */
	CONTROL_LINK = 1, /* five descriptors: struct link_ends in the order of its
			   * fields, to (peer, instance); arg: the peer's pid */
	CONTROL_UNLINK,	  /* the peer is gone; CONTROL_LINK follows when it's back */
	CONTROL_LISTENER, /* one descriptor: a listening socket; arg: its index */
	CONTROL_ZYGOTE,	  /* one descriptor: an end of the SEQPACKET socket between
			   * the task worker and the keepers' zygote; both get one */
	CONTROL_RELOAD,	  /* one descriptor: a new boot block memfd (config only counts) */
	CONTROL_STOP,	  /* finish: answer what is open, then exit 0 */
	CONTROL_PING,	  /* liveness; answered by CONTROL_PONG with the same arg */
	/* worker to supervisor */
	CONTROL_READY = 64,
	CONTROL_PONG,
	CONTROL_VIOLATION, /* peer, instance broke the protocol: end it */
	CONTROL_FINISH,	   /* what this daemon was there for is over: end it as SIGTERM
			    * does. The metadata worker's alone, of an agent. */
};

struct control {
	uint32_t type;
	uint32_t peer, instance; /* enum role */
	uint32_t arg;
	char text[112]; /* NUL-terminated; why */
};
_Static_assert(sizeof(struct control) == 128, "fixed size on the wire");
