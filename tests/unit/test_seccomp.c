/*
 * Seccomp profiles and their compilation, judged by running the programs on
 * paper: a small interpreter of the instructions that the compiler emits. The
 * oracle for what a rule means is libseccomp's own program for the same rules.
 */
#include "tap.h"

#include "workers/task/seccomp/profile.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the interpreter --- */

static uint32_t run(const struct sock_filter *f, size_t n, const struct seccomp_data *d) {
	uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = { 0 };
	for (size_t pc = 0; pc < n; pc++) {
		const struct sock_filter *i = &f[pc];
		uint32_t k = i->k;
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)d + k, 4);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= k;
			break;
		case BPF_ST:
			memory[k % BPF_MEMWORDS] = a;
			break;
		case BPF_LD | BPF_MEM:
			a = memory[k % BPF_MEMWORDS];
			break;
		case BPF_MISC | BPF_TAX:
			x = a;
			break;
		case BPF_MISC | BPF_TXA:
			a = x;
			break;
		case BPF_JMP | BPF_JA:
			pc += k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			pc += a > k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return k;
		default:
			printf("# instruction %zu: code %u isn't known\n", pc, i->code);
			return 0xdeadbeef;
		}
	}
	printf("# ran off the end\n");
	return 0xdeadbeef;
}

static uint32_t ask(const struct seccomp_program *p, uint32_t audit, uint32_t nr, uint64_t arg0) {
	struct seccomp_data d = { .nr = (int)nr, .arch = audit, .args = { arg0 } };
	return run(p->filter, p->length, &d);
}

/* --- the oracle --- */

static const uint32_t oracle_archs[] = {
#ifdef __x86_64__
	SCMP_ARCH_X86_64,
	SCMP_ARCH_X86,
	SCMP_ARCH_X32,
#else
	SCMP_ARCH_AARCH64,
	SCMP_ARCH_ARM,
#endif
};

static struct scmp_arg_cmp oracle_condition(const struct seccomp_condition *c) {
	static const enum scmp_compare ops[] = {
		[SECCOMP_OP_NE] = SCMP_CMP_NE, [SECCOMP_OP_LT] = SCMP_CMP_LT, [SECCOMP_OP_LE] = SCMP_CMP_LE,
		[SECCOMP_OP_EQ] = SCMP_CMP_EQ, [SECCOMP_OP_GE] = SCMP_CMP_GE, [SECCOMP_OP_GT] = SCMP_CMP_GT,
	};
	if (c->mask != UINT64_MAX)
		return (struct scmp_arg_cmp){ c->arg, SCMP_CMP_MASKED_EQ, c->mask, c->value };
	return (struct scmp_arg_cmp){ c->arg, ops[c->op], c->value, 0 };
}

static uint32_t oracle_action(uint32_t action) {
	return (action & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ERRNO ? SCMP_ACT_ERRNO(action & SECCOMP_RET_DATA)
								       : action;
}

/* Masks that libseccomp can't express are left to the other tests. */
static bool oracle_knows(const struct seccomp_rule *r) {
	for (unsigned i = 0; i < r->n_conditions; i++)
		if (r->conditions[i].mask != UINT64_MAX && r->conditions[i].op != SECCOMP_OP_EQ)
			return false;
	return strcmp(r->name, "socket") != 0 && strcmp(r->name, "socketcall") != 0;
}

static struct seccomp_program oracle(const struct seccomp_profile *p) {
	struct seccomp_program out = { 0 };
	scmp_filter_ctx ctx = seccomp_init(oracle_action(p->default_action));
	for (size_t i = 0; i < ARRAY_SIZE(oracle_archs); i++)
		if (seccomp_arch_exist(ctx, oracle_archs[i]) < 0)
			seccomp_arch_add(ctx, oracle_archs[i]);
	for (size_t i = 0; i < p->n_rules; i++) {
		const struct seccomp_rule *r = &p->rules[i];
		int nr = seccomp_syscall_resolve_name(r->name);
		struct scmp_arg_cmp args[SECCOMP_ARGS_MAX];
		for (unsigned k = 0; k < r->n_conditions; k++)
			args[k] = oracle_condition(&r->conditions[k]);
		if (nr != __NR_SCMP_ERROR && oracle_knows(r) && r->action != p->default_action)
			seccomp_rule_add_array(ctx, oracle_action(r->action), nr, r->n_conditions, args);
	}
	int fd = memfd_create("oracle", MFD_CLOEXEC);
	if (fd >= 0 && seccomp_export_bpf(ctx, fd) == 0) {
		struct stat st;
		fstat(fd, &st);
		out.length = (size_t)st.st_size / sizeof(struct sock_filter);
		out.filter = malloc((size_t)st.st_size);
		if (pread(fd, out.filter, (size_t)st.st_size, 0) != st.st_size)
			out.length = 0;
	}
	close(fd);
	seccomp_release(ctx);
	return out;
}

static bool oracle_judges(const struct seccomp_profile *p, enum seccomp_arch arch, uint32_t nr) {
	static const char *const ours[] = { "socket", "socketcall" };
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (seccomp_number(arch, ours[i]) == (int)nr)
			return false;
	/* Calls that this libseccomp doesn't know by number. */
	for (size_t i = 0; i < p->n_rules; i++)
		if (seccomp_number(arch, p->rules[i].name) == (int)nr)
			return seccomp_syscall_resolve_name(p->rules[i].name) != __NR_SCMP_ERROR;
	return true;
}

static const uint64_t probes[] = {
	0, 1, 8, 0x0008, 0x20000, 0x20008, 0x7e020000, 0x10000000, 0x1000000000, 0xffffffff, UINT64_MAX, 39, 41,
};

static unsigned compare_arch(const struct seccomp_profile *p, const struct seccomp_program *ours,
			     const struct seccomp_program *theirs, enum seccomp_arch arch, uint32_t audit,
			     uint32_t first, uint32_t end) {
	unsigned wrong = 0;
	for (uint32_t nr = first; nr < end; nr++) {
		for (size_t k = 0; oracle_judges(p, arch, nr) && k < ARRAY_SIZE(probes); k++) {
			uint32_t a = ask(ours, audit, nr, probes[k]), b = ask(theirs, audit, nr, probes[k]);
			if (a == b)
				continue;
			if (wrong++ < 10)
				printf("# arch %d call %u argument %#llx: %#x, libseccomp says %#x\n", arch, nr,
				       (unsigned long long)probes[k], a, b);
		}
	}
	return wrong;
}

/* 440: above what both know the rule for newer calls differs on purpose. */
static unsigned compare(const struct seccomp_profile *p, const struct seccomp_program *ours) {
	struct seccomp_program theirs = oracle(p);
	unsigned wrong = 0;
	if (theirs.length == 0)
		return 1;
#ifdef __x86_64__
	wrong += compare_arch(p, ours, &theirs, SECCOMP_ARCH_X86_64, AUDIT_ARCH_X86_64, 0, 440);
	wrong += compare_arch(p, ours, &theirs, SECCOMP_ARCH_X86, AUDIT_ARCH_I386, 0, 440);
	wrong += compare_arch(p, ours, &theirs, SECCOMP_ARCH_X32, AUDIT_ARCH_X86_64, 0x40000000, 0x40000000 + 440);
#else
	wrong += compare_arch(p, ours, &theirs, SECCOMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64, 0, 440);
	wrong += compare_arch(p, ours, &theirs, SECCOMP_ARCH_ARM, AUDIT_ARCH_ARM, 0, 440);
#endif
	printf("# %zu instructions, libseccomp %zu\n", ours->length, theirs.length);
	free(theirs.filter);
	return wrong;
}

/* --- the tests --- */

#define EPERM_RET (SECCOMP_RET_ERRNO | EPERM)
#define ENOSYS_RET (SECCOMP_RET_ERRNO | ENOSYS)

static void test_default(uint64_t capabilities, const char *who) {
	struct seccomp_profile p CLEANUP_PROFILE;
	struct seccomp_program program = { 0 };
	struct fault fault = { 0 };
	profile_init(&p);
	profile_default(&p, capabilities);
	tap_check(profile_compile(&p, &program, &fault) == 0, "the default profile compiles, %s", who);
	tap_check(compare(&p, &program) == 0, "and means what libseccomp makes of it, %s", who);
	tap_check(program.length < 600, "and is short, %s: %zu instructions", who, program.length);
	free(program.filter);
}

#ifdef __x86_64__
static void test_default_points(void) {
	struct seccomp_profile p CLEANUP_PROFILE;
	struct seccomp_program f = { 0 };
	struct fault fault = { 0 };
	profile_init(&p);
	profile_default(&p, 0);
	tap_check(profile_compile(&p, &f, &fault) == 0, "compile");
	const uint32_t n64 = AUDIT_ARCH_X86_64, n32 = AUDIT_ARCH_I386;
	tap_check(ask(&f, n64, 41, 2) == SECCOMP_RET_ALLOW, "socket AF_INET");
	tap_check(ask(&f, n64, 41, 38) == EPERM_RET && ask(&f, n32, 359, 38) == EPERM_RET, "no AF_ALG");
	tap_check(ask(&f, n64, 41, 40) == EPERM_RET && ask(&f, n32, 359, 40) == EPERM_RET, "no AF_VSOCK");
	tap_check(ask(&f, n64, 41, 39) == SECCOMP_RET_ALLOW && ask(&f, n64, 41, 44) == SECCOMP_RET_ALLOW,
		  "their neighbours");
	tap_check(ask(&f, n64, 41, 0x100000026) == EPERM_RET, "a high half doesn't hide AF_ALG");
	tap_check(ask(&f, n32, 102, 1) == ENOSYS_RET, "i386: no socket by socketcall");
	tap_check(ask(&f, n32, 102, 3) == SECCOMP_RET_ALLOW, "i386: connect by socketcall");
	tap_check(ask(&f, n64, 435, 0) == ENOSYS_RET && ask(&f, n32, 435, 0) == ENOSYS_RET, "clone3: ENOSYS");
	tap_check(ask(&f, n64, 425, 0) == EPERM_RET && ask(&f, n64, 0x40000000 + 425, 0) == EPERM_RET, "no io_uring");
	tap_check(ask(&f, n64, 462, 0) == SECCOMP_RET_ALLOW, "mseal, newer than libseccomp");
	tap_check(ask(&f, n64, 5000, 0) == ENOSYS_RET && ask(&f, n32, 5000, 0) == ENOSYS_RET,
		  "calls of the future don't exist");
	tap_check(ask(&f, AUDIT_ARCH_AARCH64, 1, 0) == SECCOMP_RET_KILL_PROCESS, "a foreign architecture kills");
	free(f.filter);
}
#endif

/* A program so long that its jumps don't reach: each call has another errno. */
static void test_far_jumps(void) {
	struct seccomp_profile p CLEANUP_PROFILE;
	struct seccomp_program f = { 0 };
	struct fault fault = { 0 };
	profile_init(&p);
	p.default_action = SECCOMP_RET_ALLOW;
	p.archs = profile_native_archs();
	static const char *const names[] = { "read",	"write",  "mount",  "kill",  "bpf",    "chroot",
					     "unshare", "ptrace", "openat", "close", "getpid", "uname",
					     "setns",	"fcntl",  "flock",  "sync" };
	for (uint32_t i = 0; i < ARRAY_SIZE(names); i++)
		for (uint32_t v = 0; v < 30; v++) {
			struct seccomp_condition c[2] = {
				{ .arg = 0, .op = SECCOMP_OP_EQ, .mask = UINT64_MAX, .value = v * 0x100000001ull },
				{ .arg = 1, .op = SECCOMP_OP_EQ, .mask = UINT64_MAX, .value = 0 },
			};
			profile_add(&p, names[i], SECCOMP_RET_ERRNO | (i * 30 + v + 1), c, 2);
		}
	tap_check(profile_compile(&p, &f, &fault) == 0 || f.length == 0, "many conditions: %s",
		  f.length ? "compiled" : fault.text);
	p.archs = profile_native_archs() & (1u << SECCOMP_ARCH_X86_64 | 1u << SECCOMP_ARCH_AARCH64);
	free(f.filter);
	f = (struct seccomp_program){ 0 };
	p.n_rules = 12 * 30;
	tap_check(profile_compile(&p, &f, &fault) == 0, "compiles on one architecture (%s)", fault.text);
	enum seccomp_arch arch = p.archs & 1u << SECCOMP_ARCH_X86_64 ? SECCOMP_ARCH_X86_64 : SECCOMP_ARCH_AARCH64;
	uint32_t audit = arch == SECCOMP_ARCH_X86_64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
	unsigned wrong = 0;
	for (uint32_t i = 0; f.length && i < 12; i++)
		for (uint32_t v = 0; v < 31; v++) {
			uint32_t want = v < 30 ? SECCOMP_RET_ERRNO | (i * 30 + v + 1) : SECCOMP_RET_ALLOW;
			wrong += ask(&f, audit, (uint32_t)seccomp_number(arch, names[i]), v * 0x100000001ull) != want;
		}
	tap_check(wrong == 0 && f.length > 1000, "far jumps lead where they should: %zu instructions", f.length);
	free(f.filter);
}

static void test_operators(void) {
	static const struct {
		const char *op;
		uint64_t value, two, arg;
		bool holds;
	} rows[] = {
		{ .op = "SCMP_CMP_EQ", .value = 5, .arg = 5, .holds = true },
		{ .op = "SCMP_CMP_EQ", .value = 5, .arg = 0x500000005, .holds = false },
		{ .op = "SCMP_CMP_NE", .value = 5, .arg = 0x500000005, .holds = true },
		{ .op = "SCMP_CMP_NE", .value = 5, .arg = 5, .holds = false },
		{ .op = "SCMP_CMP_LT", .value = 0x100000005, .arg = 0x100000004, .holds = true },
		{ .op = "SCMP_CMP_LT", .value = 0x100000005, .arg = 0x100000005, .holds = false },
		{ .op = "SCMP_CMP_LT", .value = 0x100000005, .arg = 0xffffffff, .holds = true },
		{ .op = "SCMP_CMP_LE", .value = 0x100000005, .arg = 0x100000005, .holds = true },
		{ .op = "SCMP_CMP_LE", .value = 0x100000005, .arg = 0x200000000, .holds = false },
		{ .op = "SCMP_CMP_GE", .value = 7, .arg = 7, .holds = true },
		{ .op = "SCMP_CMP_GE", .value = 7, .arg = 6, .holds = false },
		{ .op = "SCMP_CMP_GE", .value = 7, .arg = 0x100000000, .holds = true },
		{ .op = "SCMP_CMP_GT", .value = 7, .arg = 7, .holds = false },
		{ .op = "SCMP_CMP_GT", .value = 7, .arg = 8, .holds = true },
		{ .op = "SCMP_CMP_MASKED_EQ", .value = 0xf0, .two = 0x30, .arg = 0xaaaa000000000030, .holds = true },
		{ .op = "SCMP_CMP_MASKED_EQ", .value = 0xf0, .two = 0x30, .arg = 0x70, .holds = false },
		{ .op = "SCMP_CMP_MASKED_EQ",
		  .value = 0xf000000000,
		  .two = 0x3000000000,
		  .arg = 0x3000000001,
		  .holds = true },
	};
	enum seccomp_arch arch = profile_native_archs() & 1u << SECCOMP_ARCH_X86_64 ? SECCOMP_ARCH_X86_64
										    : SECCOMP_ARCH_AARCH64;
	uint32_t audit = arch == SECCOMP_ARCH_X86_64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct seccomp_profile p CLEANUP_PROFILE;
		struct seccomp_condition c;
		struct seccomp_program f = { 0 };
		struct fault fault = { 0 };
		profile_init(&p);
		p.archs = profile_native_archs();
		int r = profile_condition(rows[i].op, 0, rows[i].value, rows[i].two, &c, &fault);
		profile_add(&p, "uname", EPERM_RET, &c, 1);
		r |= profile_compile(&p, &f, &fault);
		uint32_t got = f.length ? ask(&f, audit, (uint32_t)seccomp_number(arch, "uname"), rows[i].arg) : 0;
		tap_check(r == 0 && got == (rows[i].holds ? EPERM_RET : SECCOMP_RET_ALLOW), "%s %#llx with %#llx",
			  rows[i].op, (unsigned long long)rows[i].value, (unsigned long long)rows[i].arg);
		free(f.filter);
	}
}

static const char docker_json[] =
    "{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":1,"
    "\"archMap\":[{\"architecture\":\"SCMP_ARCH_X86_64\",\"subArchitectures\":[\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"]},"
    "{\"architecture\":\"SCMP_ARCH_AARCH64\",\"subArchitectures\":[\"SCMP_ARCH_ARM\"]},"
    "{\"architecture\":\"SCMP_ARCH_S390X\",\"subArchitectures\":[\"SCMP_ARCH_S390\"]}],"
    "\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"],"
    "\"syscalls\":["
    "{\"names\":[\"read\",\"write\",\"no_such_call\"],\"action\":\"SCMP_ACT_ALLOW\"},"
    "{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
    "{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\",\"args\":[{\"index\":0,\"value\":2114060288,"
    "\"valueTwo\":0,\"op\":\"SCMP_CMP_MASKED_EQ\"}],\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
    "{\"names\":[\"clone3\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38,\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}}"
    ","
    "{\"names\":[\"ptrace\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"4.8\"}},"
    "{\"names\":[\"chroot\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"minKernel\":\"99.1\"}},"
    "{\"names\":[\"acct\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"s390\"]}},"
    "{\"name\":\"kill\",\"action\":\"SCMP_ACT_KILL_PROCESS\"}]}";

static void test_json(void) {
	enum seccomp_arch arch = profile_native_archs() & 1u << SECCOMP_ARCH_X86_64 ? SECCOMP_ARCH_X86_64
										    : SECCOMP_ARCH_AARCH64;
	uint32_t audit = arch == SECCOMP_ARCH_X86_64 ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_AARCH64;
	static const struct {
		const char *name;
		uint64_t arg;
		uint32_t plain, admin; /* without and with CAP_SYS_ADMIN */
	} rows[] = {
		{ .name = "read", .plain = SECCOMP_RET_ALLOW, .admin = SECCOMP_RET_ALLOW },
		{ .name = "mount", .plain = EPERM_RET, .admin = SECCOMP_RET_ALLOW },
		{ .name = "clone", .arg = 0x11, .plain = SECCOMP_RET_ALLOW, .admin = EPERM_RET },
		{ .name = "clone", .arg = 0x10000000, .plain = EPERM_RET, .admin = EPERM_RET },
		/* newer than all that the profile names for CAP_SYS_ADMIN */
		{ .name = "clone3", .plain = ENOSYS_RET, .admin = ENOSYS_RET },
		{ .name = "ptrace", .plain = SECCOMP_RET_ALLOW, .admin = SECCOMP_RET_ALLOW },
		{ .name = "chroot", .plain = EPERM_RET, .admin = EPERM_RET },
		{ .name = "acct", .plain = EPERM_RET, .admin = EPERM_RET },
		{ .name = "kill", .plain = SECCOMP_RET_KILL_PROCESS, .admin = SECCOMP_RET_KILL_PROCESS },
	};
	for (int admin = 0; admin < 2; admin++) {
		struct seccomp_profile p CLEANUP_PROFILE;
		struct seccomp_program f = { 0 };
		struct fault fault = { 0 };
		profile_init(&p);
		int r = profile_from_json(&p, docker_json, strlen(docker_json), admin ? 1ull << 21 : 0, &fault);
		tap_check(r == 0 && profile_compile(&p, &f, &fault) == 0, "Docker's JSON: %s", fault.text);
		tap_check(p.archs == profile_native_archs(), "its architectures");
		tap_check(f.flags == SECCOMP_FILTER_FLAG_LOG, "its flags");
		for (size_t i = 0; f.length && i < ARRAY_SIZE(rows); i++)
			tap_check(ask(&f, audit, (uint32_t)seccomp_number(arch, rows[i].name), rows[i].arg) ==
				      (admin ? rows[i].admin : rows[i].plain),
				  "%s, %s CAP_SYS_ADMIN", rows[i].name, admin ? "with" : "without");
		free(f.filter);
	}
}

static void test_json_refused(void) {
	static const struct {
		const char *json, *says;
	} rows[] = {
		{ .json = "", .says = "no JSON object" },
		{ .json = "[]", .says = "no JSON object" },
		{ .json = "{", .says = "no JSON object" },
		{ .json = "{}", .says = "action \"\"" },
		{ .json = "{\"defaultAction\":\"SCMP_ACT_ALOW\"}", .says = "SCMP_ACT_ALOW" },
		{ .json = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"X\"]}", .says = "flag \"X\"" },
		{ .json = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"architectures\":[\"x\"]}", .says = "architecture" },
		{ .json = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[1]}", .says = "no object" },
		{ .json =
		      "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],"
		      "\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":6,\"value\":1,\"op\":\"SCMP_CMP_EQ\"}]}]}",
		  .says = "argument 6" },
		{ .json = "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"read\"],"
			  "\"action\":\"SCMP_ACT_ERRNO\",\"args\":[{\"index\":0,\"value\":1,\"op\":\"==\"}]}]}",
		  .says = "\"==\"" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct seccomp_profile p CLEANUP_PROFILE;
		struct fault fault = { 0 };
		profile_init(&p);
		int r = profile_from_json(&p, rows[i].json, strlen(rows[i].json), 0, &fault);
		tap_check(r < 0 && strstr(fault.text, rows[i].says), "refused: %s", fault.text);
	}
}

/* --- which profile a Spec asks for --- */

struct spec {
	Grpc__Spec spec;
	Grpc__Process process;
	Grpc__LinuxCapabilities capabilities;
	Grpc__Linux lin;
	Grpc__Spec__AnnotationsEntry entry, *entries[1];
	char *bounding[1];
};

static void spec_set(struct spec *s, const char *annotation, const char *capability) {
	*s = (struct spec){ .spec = GRPC__SPEC__INIT,
			    .process = GRPC__PROCESS__INIT,
			    .capabilities = GRPC__LINUX_CAPABILITIES__INIT,
			    .lin = GRPC__LINUX__INIT,
			    .entry = GRPC__SPEC__ANNOTATIONS_ENTRY__INIT };
	s->entry.key = (char *)SECCOMP_ANNOTATION;
	s->entry.value = (char *)annotation;
	s->entries[0] = &s->entry;
	s->spec.annotations = s->entries;
	s->spec.n_annotations = annotation ? 1 : 0;
	s->bounding[0] = (char *)capability;
	s->capabilities.bounding = s->bounding;
	s->capabilities.n_bounding = capability ? 1 : 0;
	s->process.capabilities = &s->capabilities;
	s->spec.process = &s->process;
	s->spec.linux = &s->lin;
}

static void test_cache(void) {
	struct seccomp_cache *c;
	struct fault fault = { 0 };
	const struct seccomp_program *a = NULL, *b = NULL, *d = NULL;
	struct spec s;
	if (seccomp_cache_new("/profiles", &c) < 0)
		abort();

	spec_set(&s, NULL, NULL);
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &a, &fault) == 0 && !a, "nothing said: no filter");
	spec_set(&s, "unconfined", NULL);
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &a, &fault) == 0 && !a, "unconfined: no filter");
	spec_set(&s, "runtime/default", "CAP_CHOWN");
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &a, &fault) == 0 && a && a->length > 100, "the default");
	spec_set(&s, "runtime/default", "CAP_NET_RAW");
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &b, &fault) == 0 && a == b, "the same, from the cache");
	spec_set(&s, "runtime/default", "CAP_SYS_TIME");
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &b, &fault) == 0 && a != b,
		  "another capability, another program");
	size_t size = strlen(docker_json);
	char file[PATH_MAX];
	tap_check(seccomp_profile_path(c, &s.spec, file, &fault) == 0, "the default is in no file");
	spec_set(&s, "localhost/web.json", NULL);
	tap_check(seccomp_profile_path(c, &s.spec, file, &fault) == 1 && strcmp(file, "/profiles/web.json") == 0,
		  "a relative name: %s", file);
	tap_check(seccomp_program_for(c, &s.spec, docker_json, size, &b, &fault) == 0 && b, "a file's text");
	tap_check(seccomp_program_for(c, &s.spec, docker_json, size, &d, &fault) == 0 && d == b,
		  "the same, from the cache");
	tap_check(seccomp_program_for(c, &s.spec, "{", 1, &d, &fault) < 0 && strstr(fault.text, "web.json"), "%s",
		  fault.text);
	spec_set(&s, "localhost//elsewhere/web.json", NULL);
	tap_check(seccomp_profile_path(c, &s.spec, file, &fault) == 1 && strcmp(file, "/elsewhere/web.json") == 0,
		  "a full path: %s", file);
	spec_set(&s, "localhost/../web.json", NULL);
	tap_check(seccomp_profile_path(c, &s.spec, file, &fault) < 0, "climbing: %s", fault.text);
	spec_set(&s, "defautl", NULL);
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &d, &fault) < 0 && strstr(fault.text, "defautl"), "%s",
		  fault.text);

	spec_set(&s, "unconfined", NULL);
	Grpc__LinuxSeccomp full = GRPC__LINUX_SECCOMP__INIT;
	Grpc__LinuxSyscall call = GRPC__LINUX_SYSCALL__INIT, *calls[] = { &call };
	char *names[] = { (char *)"mount" };
	full.defaultaction = (char *)"SCMP_ACT_ALLOW";
	full.syscalls = calls;
	full.n_syscalls = 1;
	call.names = names;
	call.n_names = 1;
	call.action = (char *)"SCMP_ACT_ERRNO";
	s.lin.seccomp = &full;
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &a, &fault) == 0 && a, "a profile in full comes first");
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &b, &fault) == 0 && a == b, "and is cached too");
	call.errno_ret_case = GRPC__LINUX_SYSCALL__ERRNO_RET_ERRNORET;
	call.errnoret = 70000;
	tap_check(seccomp_program_for(c, &s.spec, NULL, 0, &a, &fault) < 0, "%s", fault.text);
	for (uint32_t i = 1; i < 100; i++) {
		call.errnoret = i;
		if (seccomp_program_for(c, &s.spec, NULL, 0, &a, &fault) < 0)
			break;
	}
	tap_check(a && a->filter, "more profiles than the cache keeps");
	seccomp_cache_free(c);
}

int main(void) {
	test_default(0, "without capabilities");
	test_default(UINT64_MAX, "with all");
	test_default(1ull << 21, "with CAP_SYS_ADMIN");
#ifdef __x86_64__
	test_default_points();
#endif
	test_operators();
	test_far_jumps();
	test_json();
	test_json_refused();
	test_cache();
	return tap_done();
}
