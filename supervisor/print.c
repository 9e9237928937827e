/* The privilege table for people who review it: `bulkheadd --print-privileges`. */
#include "supervisor/privilege_table.h"

#include "boot/endpoint.h"

#include <linux/capability.h>
#include <sched.h>

static void print_capabilities(uint64_t set, FILE *to) {
	static const char *const names[] = {
		[CAP_CHOWN] = "chown",
		[CAP_DAC_OVERRIDE] = "dac_override",
		[CAP_DAC_READ_SEARCH] = "dac_read_search",
		[CAP_FOWNER] = "fowner",
		[CAP_FSETID] = "fsetid",
		[CAP_SETGID] = "setgid",
		[CAP_SETUID] = "setuid",
		[CAP_LINUX_IMMUTABLE] = "linux_immutable",
		[CAP_SYS_ADMIN] = "sys_admin",
		[CAP_MKNOD] = "mknod",
		[CAP_SETFCAP] = "setfcap",
	};
	fprintf(to, "  capabilities ");
	if (set == 0 || set == BOOT_CAPABILITIES_ALL)
		fprintf(to, " %s", set ? "all that the supervisor has" : "none");
	for (unsigned i = 0; set != BOOT_CAPABILITIES_ALL && i < 64; i++)
		if (set & (UINT64_C(1) << i))
			fprintf(to, " %s", i < ARRAY_SIZE(names) && names[i] ? names[i] : "?");
	fputc('\n', to);
}

static void print_sight(const struct boot_privileges *p, FILE *to) {
	if (!p->empty_root)
		fprintf(to, "  sees          the host's root\n");
	else if (p->n_visible == 0)
		fprintf(to, "  sees          nothing\n");
	for (uint32_t i = 0; p->empty_root && i < p->n_visible; i++)
		fprintf(to, "  %-12s  %s (%s)\n", i == 0 ? "sees" : "", p->visible[i].path,
			p->visible[i].writable ? "writes" : "reads");
}

static void print_namespaces(uint64_t flags, FILE *to) {
	static const struct {
		uint64_t flag;
		const char *name;
	} names[] = {
		{ CLONE_NEWNS, "mount" }, { CLONE_NEWIPC, "ipc" }, { CLONE_NEWUTS, "uts" }, { CLONE_NEWNET, "network" }
	};
	fprintf(to, "  own           ");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (flags & names[i].flag)
			fprintf(to, "%s ", names[i].name);
	fprintf(to, "%s\n", flags ? "namespaces" : "no namespaces");
}

static void print_limit(const char *name, const struct rlimit *limit, FILE *to) {
	if (limit->rlim_max == BOOT_LIMIT_KEEP)
		fprintf(to, " %s as inherited", name);
	else
		fprintf(to, " %s %llu", name, (unsigned long long)limit->rlim_max);
}

static void print_calls(const struct row *row, const struct boot_privileges *p, FILE *to) {
	fprintf(to, "  system calls ");
	for (unsigned i = 0; syscall_group_name(i); i++)
		if (row->syscalls & (1u << i))
			fprintf(to, " %s", syscall_group_name(i));
	if (row->syscalls)
		fprintf(to, " (%u instructions)\n", p->n_bpf);
	else
		fprintf(to, " any\n");
	fprintf(to, "  io_uring     %s", row->opcodes ? "" : " any");
	for (const struct opcode *o = privilege_opcodes; o->name; o++)
		if (row->opcodes & o->group)
			fprintf(to, " %s", o->name);
	fputc('\n', to);
}

static int print_row(enum role role, const struct config *c, FILE *to, struct fault *fault) {
	const struct row *row = &privilege_rows[role];
	struct boot_privileges p;
	int r = privileges_compile(role, c, &p, fault);
	if (r < 0)
		return r;
	fprintf(to, "%s\n  user          %s, uid %u gid %u\n", role_name(role), row->user ? row->user : "root", p.uid,
		p.gid);
	print_capabilities(p.capabilities, to);
	print_namespaces(p.unshare, to);
	print_sight(&p, to);
	print_calls(row, &p, to);
	fprintf(to, "  limits       ");
	print_limit("nofile", &p.nofile, to);
	print_limit("nproc", &p.nproc, to);
	print_limit("memlock", &p.memlock, to);
	print_limit("core", &p.core, to);
	fprintf(to, "\n  links to     ");
	for (unsigned peer = 0; peer < ROLE_COUNT; peer++)
		if (privileges_peers(role, (enum role)peer))
			fprintf(to, " %s", role_name((enum role)peer));
	fprintf(to, "%s\n\n", role == ROLE_KEEPER ? " task, by a socket of packets" : "");
	return 0;
}

static void print_endpoint(const struct config *c, unsigned n, FILE *to) {
	const struct boot_endpoint *e = &c->boot.endpoints[n];
	const struct listener_config *l = &c->listeners[n];
	fprintf(to,
		"endpoint %s\n  socket        %s, %s:%s %04o\n  protocol      %s\n  access        %s\n  services     ",
		e->name, e->socket, l->owner, l->group, (unsigned)l->mode,
		endpoint_protocol_name((enum endpoint_protocol)e->protocol), link_access_name(e->access));
	for (enum service_group g = 0; g < GROUP_COUNT; g++)
		if (e->services & (1u << g))
			fprintf(to, " %s%s", service_group_name(g), GROUPS_SERVED & (1u << g) ? "" : " (none yet)");
	fprintf(to, "\n  clients      %s", e->n_uids ? " uid" : " whoever may open the socket");
	for (uint32_t i = 0; i < e->n_uids; i++)
		fprintf(to, " %u", e->uids[i]);
	fputs("\n\n", to);
}

int privileges_print(const struct config *c, FILE *to, struct fault *fault) {
	for (enum role role = ROLE_API; role < ROLE_COUNT; role++) {
		int r = print_row(role, c, to, fault);
		if (r < 0)
			return r;
	}
	for (unsigned i = 0; i < c->boot.n_endpoints; i++)
		print_endpoint(c, i, to);
	fprintf(to, "The groups of system calls (* with checked arguments):\n\n");
	for (unsigned i = 0; syscall_group_name(i); i++) {
		fprintf(to, "%s: ", syscall_group_name(i));
		filter_print(1u << i, to);
	}
	return 0;
}
