#include "supervisor/account.h"
#include "supervisor/privilege_table.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <string.h>

#define CAP(name) (UINT64_C(1) << CAP_##name)
#define PEER(name) (1u << ROLE_##name)
#define NOFILE(n) .nofile = { n, n }

/* Since Linux 6.7; older headers have no name for it. */
#define OP_READ_MULTISHOT 49

#define NEW_IPC_UTS_MOUNT (CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS)
#define NO_NETWORK CLONE_NEWNET

/* --- the table --- */

const struct row privilege_rows[ROLE_COUNT] = {
	/* Reads what clients send, so it can do nothing but answer: it lives on
	 * the descriptors that it is given. */
	[ROLE_API] = {
		.user = "bulkhead-api",
		.namespaces = NEW_IPC_UTS_MOUNT | NO_NETWORK,
		.empty_root = true,
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS,
		.opcodes = OPS_LOOP | OPS_ACCEPT | OPS_STREAM,
		NOFILE(65536),
		.nproc = { 64, 64 },
		.peers = PEER(METADATA),
	},
	/* Holds all records, so it sees its databases and nothing else. */
	[ROLE_METADATA] = {
		.user = "bulkhead-metadata",
		.namespaces = NEW_IPC_UTS_MOUNT | NO_NETWORK,
		.empty_root = true,
		.sees = {
			{ STATE, WRITE, "metadata" },
		},
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_FILES,
		.opcodes = OPS_LOOP | OPS_STREAM | OPS_SYNC,
		NOFILE(4096),
		.nproc = { 64, 64 },
		.peers = PEER(API) | PEER(IMAGE) | PEER(SNAPSHOT) | PEER(TASK) | PEER(STREAM) | PEER(SYSTEMD) |
			 PEER(GUEST),
	},
	/* Talks to registries: the only one with a network, and then with no
	 * more than what TLS and name resolution read. */
	[ROLE_IMAGE] = {
		.user = "bulkhead-image",
		.namespaces = NEW_IPC_UTS_MOUNT,
		.empty_root = true,
		.sees = {
			{ STATE, WRITE, "content" },
			{ CERTS, READ | OPTIONAL, "" },
			{ HOST, READ | OPTIONAL, "/etc/ssl" },
			{ HOST, READ | OPTIONAL, "/etc/pki" },
			{ HOST, READ | OPTIONAL, "/usr/share/ca-certificates" },
			{ HOST, READ | OPTIONAL, "/usr/local/share/ca-certificates" },
			{ HOST, READ | OPTIONAL, "/etc/resolv.conf" },
			{ HOST, READ | OPTIONAL, "/etc/hosts" },
			{ HOST, READ | OPTIONAL, "/etc/nsswitch.conf" },
			{ HOST, READ | OPTIONAL, "/etc/host.conf" },
			{ HOST, READ | OPTIONAL, "/etc/gai.conf" },
		},
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_FILES | SYSCALLS_INET |
			    SYSCALLS_THREADS,
		.opcodes = OPS_LOOP | OPS_STREAM | OPS_SYNC,
		NOFILE(4096),
		.nproc = { 256, 256 }, /* the resolver's threads */
		.peers = PEER(METADATA),
	},
	/* Makes root filesystems. What the overlay does for containers later, it
	 * does with the rights of who mounted it: hence the file capabilities.
	 * SETUID and SETGID serve setfsuid alone, for files that belong to root;
	 * the process can't become root, so it can signal nobody but its own. */
	[ROLE_SNAPSHOT] = {
		.user = "bulkhead-snapshot",
		.capabilities = CAP(SYS_ADMIN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) |
				CAP(CHOWN) | CAP(FOWNER) | CAP(FSETID) | CAP(MKNOD) | CAP(SETFCAP) |
				CAP(LINUX_IMMUTABLE) | CAP(SETUID) | CAP(SETGID),
		.namespaces = NEW_IPC_UTS_MOUNT | NO_NETWORK,
		.empty_root = true,
		.sees = {
			{ STATE, WRITE | AS_IT_IS, "layers" },
			{ STATE, WRITE | AS_IT_IS, "snapshots" },
		},
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_FILES | SYSCALLS_OWNERS |
			    SYSCALLS_SPAWN | SYSCALLS_MOUNTS,
		.opcodes = OPS_LOOP | OPS_STREAM | OPS_SYNC,
		NOFILE(4096),
		.nproc = { 512, 512 },
		.peers = PEER(METADATA),
	},
	/* Tells the keepers what to do. Their sockets are root's, and so are the
	 * network configurations that kubelet's friends write with mode 0600:
	 * hence the one capability, over nothing but the paths that it sees. */
	[ROLE_TASK] = {
		.user = "bulkhead-task",
		/* Network configuration may be root's alone. */
		.capabilities = CAP(DAC_READ_SEARCH),
		.namespaces = NEW_IPC_UTS_MOUNT | NO_NETWORK,
		.empty_root = true,
		.sees = {
			{ RUN, WRITE, "pods" },
			{ CNI_CONF, READ | OPTIONAL, "" },
			{ CNI_BIN, READ | OPTIONAL, "" },
		},
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_FILES | SYSCALLS_UNIX,
		.opcodes = OPS_LOOP,
		NOFILE(1048576), /* it holds each keeper's descriptors twice */
		.nproc = { 64, 64 },
		.peers = PEER(METADATA),
	},
	/* Carries bytes between clients and processes: on nothing but the
	 * descriptors that it is given, like the API worker. */
	[ROLE_STREAM] = {
		.user = "bulkhead-stream",
		.namespaces = NEW_IPC_UTS_MOUNT | NO_NETWORK,
		.empty_root = true,
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_TERMINALS,
		.opcodes = OPS_LOOP | OPS_ACCEPT | OPS_STREAM,
		NOFILE(65536),
		.nproc = { 64, 64 },
		.peers = PEER(METADATA),
	},
	/* Asks systemd for units, which systemd lets uid 0 do alone. Whoever can
	 * ask that is root in all but name, so it reads nothing but ids, names
	 * of slices and numbers from the metadata worker, and systemd's answers.
	 * It sees the folder of systemd's socket, since systemd makes the socket
	 * anew when it executes itself again. Runs with that driver alone. */
	[ROLE_SYSTEMD] = {
		.namespaces = NEW_IPC_UTS_MOUNT | NO_NETWORK,
		.empty_root = true,
		.sees = {
			{ HOST, READ | OPTIONAL, "/run/systemd" },
		},
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_UNIX,
		.opcodes = OPS_LOOP,
		NOFILE(1024),
		.nproc = { 64, 64 },
		.peers = PEER(METADATA),
	},
	/* Changes the guest that an agent runs in: its mounts, network, clock,
	 * memory. So it is the guest's root, in the namespaces that the keepers
	 * see, and its requests come from whoever has the guest; but they come
	 * decoded, each is worked off by a child of its own, and what only an
	 * attacker asks for stays forbidden. Runs in an agent alone. */
	[ROLE_GUEST] = {
		.capabilities = CAP(SYS_ADMIN) | CAP(NET_ADMIN) | CAP(NET_RAW) | CAP(SYS_TIME) | CAP(SYS_MODULE) |
				CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(CHOWN) | CAP(FOWNER) | CAP(FSETID),
		.syscalls = SYSCALLS_BASE | SYSCALLS_MEMORY | SYSCALLS_SOCKETS | SYSCALLS_FILES | SYSCALLS_OWNERS |
			    SYSCALLS_SPAWN | SYSCALLS_MOUNTS | SYSCALLS_TOOLS | SYSCALLS_MACHINE,
		.opcodes = OPS_LOOP,
		NOFILE(1024),
		.nproc = { 512, 512 },
		.peers = PEER(METADATA),
	},
	/* The zygote isn't confined, on purpose. What keepers fork become
	 * containers: a filter, no_new_privs, a bounding set or a rlimit of its
	 * own would be inherited by them, where it would break setuid programs
	 * and privileged containers. It reads nothing but the task worker's
	 * messages, and has no link to anybody else. */
	[ROLE_KEEPER] = {
		.capabilities = BOOT_CAPABILITIES_ALL,
		.inherits_limits = true,
	},
};

/* --- io_uring --- */

const struct opcode privilege_opcodes[] = {
	{ OPS_LOOP, "nop", IORING_OP_NOP },
	{ OPS_LOOP, "poll_add", IORING_OP_POLL_ADD },
	{ OPS_LOOP, "poll_remove", IORING_OP_POLL_REMOVE },
	{ OPS_LOOP, "async_cancel", IORING_OP_ASYNC_CANCEL },
	{ OPS_LOOP, "timeout", IORING_OP_TIMEOUT },
	{ OPS_LOOP, "timeout_remove", IORING_OP_TIMEOUT_REMOVE },
	{ OPS_ACCEPT, "accept", IORING_OP_ACCEPT },
	{ OPS_STREAM, "recv", IORING_OP_RECV },
	{ OPS_STREAM, "send", IORING_OP_SEND },
	{ OPS_STREAM, "read", IORING_OP_READ },
	{ OPS_STREAM, "read_multishot", OP_READ_MULTISHOT },
	{ OPS_STREAM, "write", IORING_OP_WRITE },
	{ OPS_SYNC, "fsync", IORING_OP_FSYNC },
	{ 0 },
};

/* --- resolving --- */

void privileges_owner(enum role role, const struct config *c, uid_t *ret_uid, gid_t *ret_gid) {
	*ret_uid = *ret_gid = 0;
	if (!privilege_rows[role].user)
		return;
	*ret_uid = *ret_gid = c->uid_base + role;
	account_user(privilege_rows[role].user, ret_uid, ret_gid);
}

bool privileges_wanted(enum role role, const struct config *c) {
	bool agent = c->boot.mode == BOOT_AGENT;
	switch (role) {
	case ROLE_SYSTEMD:
		return c->boot.cgroup_driver == BOOT_SYSTEMD;
	case ROLE_IMAGE:
	case ROLE_SNAPSHOT:
	case ROLE_STREAM:
		return !agent;
	case ROLE_GUEST:
		return agent;
	default:
		return true;
	}
}

bool privileges_peers(enum role a, enum role b) {
	return (privilege_rows[a].peers & (1u << b)) && (privilege_rows[b].peers & (1u << a));
}

static int see(struct boot_privileges *p, enum access access, const char *base, size_t base_size, const char *path,
	       struct fault *fault) {
	if (p->n_visible == BOOT_VISIBLE_MAX)
		return fault_set(fault, FAULT_RESOURCE_EXHAUSTED, "a worker sees at most %d paths", BOOT_VISIBLE_MAX);
	struct boot_visible *v = &p->visible[p->n_visible++];
	int n = snprintf(v->path, sizeof(v->path), "%.*s%s%s", (int)base_size, base, *path && *path != '/' ? "/" : "",
			 path);
	if (n < 0 || (size_t)n >= sizeof(v->path))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the path \"%s/%s\" is longer than %zu bytes", base,
				 path, sizeof(v->path) - 1);
	v->writable = access & WRITE;
	v->optional = access & OPTIONAL;
	v->as_it_is = access & AS_IT_IS;
	return 0;
}

static int see_list(struct boot_privileges *p, enum access access, const char *list, struct fault *fault) {
	for (;;) {
		size_t n = strcspn(list, ":");
		int r = see(p, access, list, n, "", fault);
		if (r < 0 || list[n] == '\0')
			return r;
		list += n + 1;
	}
}

static int resolve_sight(const struct row *row, const struct boot_config *c, struct boot_privileges *p,
			 struct fault *fault) {
	const char *const bases[] = {
		[HOST] = "",
		[STATE] = c->state_root,
		[RUN] = c->run_root,
		[CERTS] = c->certs_dir,
		[CNI_CONF] = c->cni_conf_dir,
	};
	for (const struct sight *s = row->sees; s->path; s++) {
		int r = s->place == CNI_BIN
			    ? see_list(p, s->access, c->cni_bin_dirs, fault)
			    : see(p, s->access, bases[s->place], strlen(bases[s->place]), s->path, fault);
		if (r < 0)
			return r;
	}
	return 0;
}

int privileges_resolve(enum role role, const struct config *c, struct boot_privileges *ret_privileges,
		       struct fault *fault) {
	const struct row *row = &privilege_rows[role];
	struct boot_privileges p = {
		.capabilities = row->capabilities,
		.empty_root = row->empty_root,
		.unshare = row->namespaces,
		.no_new_privs = row->syscalls != 0,
		.nofile = row->nofile,
		.nproc = row->nproc,
		.memlock = { 8 * 1024 * 1024, 8 * 1024 * 1024 },
		.core = { 0, 0 }, /* memory of these processes has credentials in it */
	};
	if (row->inherits_limits)
		p.nofile.rlim_max = p.nproc.rlim_max = p.memlock.rlim_max = p.core.rlim_max = BOOT_LIMIT_KEEP;
	privileges_owner(role, c, &p.uid, &p.gid);
	for (const struct opcode *o = privilege_opcodes; o->name; o++)
		if (row->opcodes & o->group)
			p.opcodes[p.n_opcodes++] = o->number;
	int r = resolve_sight(row, &c->boot, &p, fault);
	if (r < 0)
		return fault_prefix(fault, r, "privileges of %s", role_name(role));
	*ret_privileges = p;
	return 0;
}

int privileges_compile(enum role role, const struct config *c, struct boot_privileges *ret_privileges,
		       struct fault *fault) {
	int r = privileges_resolve(role, c, ret_privileges, fault);
	if (r < 0 || privilege_rows[role].syscalls == 0)
		return r;
	r = filter_compile(privilege_rows[role].syscalls, ret_privileges->bpf, BOOT_BPF_MAX, &ret_privileges->n_bpf,
			   fault);
	return r < 0 ? fault_prefix(fault, r, "privileges of %s", role_name(role)) : 0;
}
