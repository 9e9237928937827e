/*
 * Which devices a container may use. v1 keeps a list per group; v2 asks a
 * program, which is written here: one block per rule, the last rule first,
 * because the last one that matches decides.
 */
#include "workers/keeper/cgroup_private.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>

/* What every container has, whatever its specification says. */
static const struct device_rule defaults[] = {
	{ true, 'c', -1, -1, DEVICE_MKNOD },
	{ true, 'b', -1, -1, DEVICE_MKNOD },
	{ true, 'c', 1, 3, 7 },	   /* null */
	{ true, 'c', 1, 5, 7 },	   /* zero */
	{ true, 'c', 1, 7, 7 },	   /* full */
	{ true, 'c', 1, 8, 7 },	   /* random */
	{ true, 'c', 1, 9, 7 },	   /* urandom */
	{ true, 'c', 5, 0, 7 },	   /* tty */
	{ true, 'c', 5, 1, 7 },	   /* console */
	{ true, 'c', 5, 2, 7 },	   /* ptmx */
	{ true, 'c', 136, -1, 7 }, /* pts */
};

static unsigned access_parse(const char *text) {
	unsigned a = 0;
	for (const char *p = text; *p; p++)
		a |= *p == 'r' ? DEVICE_READ : *p == 'w' ? DEVICE_WRITE : *p == 'm' ? DEVICE_MKNOD : 8U;
	return *text ? a : 7;
}

static int rule_parse(const Grpc__LinuxDeviceCgroup *d, struct device_rule *ret, struct fault *fault) {
	struct device_rule r = { .allow = d->allow,
				 .type = d->type[0] ? d->type[0] : 'a',
				 .major = d->major,
				 .minor = d->minor,
				 .access = access_parse(d->access) };
	if (r.type == 'u')
		r.type = 'c';
	if (!strchr("abc", r.type) || (d->type[0] && d->type[1]) || r.access > 7)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "device rule \"%s %s\" is malformed", d->type,
				 d->access);
	/* Absent numbers arrive as 0, and there is no device with major 0. */
	if (r.type == 'a' || r.major == 0)
		r.major = r.minor = -1;
	*ret = r;
	return 0;
}

int device_rules_make(const Grpc__LinuxResources *r, struct device_rules *ret, struct fault *fault) {
	ret->n = 0;
	ret->list[ret->n++] = (struct device_rule){ false, 'a', -1, -1, 7 };
	size_t n = r ? r->n_devices : 0;
	if (n > DEVICE_RULES_MAX - 1 - ARRAY_SIZE(defaults))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "%zu device rules are too many", n);
	bool all = false;
	for (size_t i = 0; i < n; i++) {
		struct device_rule *d = &ret->list[ret->n++];
		int e = rule_parse(r->devices[i], d, fault);
		if (e < 0)
			return e;
		if (d->type == 'a' && d->access == 7) {
			/* Whatever came before is void. */
			ret->list[0] = *d;
			ret->n = 1;
			all = d->allow;
		}
	}
	if (!all) {
		memcpy(ret->list + ret->n, defaults, sizeof(defaults));
		ret->n += ARRAY_SIZE(defaults);
	}
	return 0;
}

static struct bpf_insn insn(uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm) {
	return (struct bpf_insn){ .code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm };
}

/* r2 type, r3 access, r4 major, r5 minor */
static size_t prologue(struct bpf_insn *p) {
	p[0] = insn(BPF_LDX | BPF_MEM | BPF_W, 2, 1, offsetof(struct bpf_cgroup_dev_ctx, access_type), 0);
	p[1] = insn(BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
	p[2] = insn(BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
	p[3] = insn(BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16);
	p[4] = insn(BPF_LDX | BPF_MEM | BPF_W, 4, 1, offsetof(struct bpf_cgroup_dev_ctx, major), 0);
	p[5] = insn(BPF_LDX | BPF_MEM | BPF_W, 5, 1, offsetof(struct bpf_cgroup_dev_ctx, minor), 0);
	return 6;
}

static int32_t access_bits(unsigned access) {
	return (access & DEVICE_READ ? BPF_DEVCG_ACC_READ : 0) | (access & DEVICE_WRITE ? BPF_DEVCG_ACC_WRITE : 0) |
	       (access & DEVICE_MKNOD ? BPF_DEVCG_ACC_MKNOD : 0);
}

/* An allowing rule decides when all that is asked for is in it; a denying one
 * when any of it is. */
static size_t rule_block(const struct device_rule *d, struct bpf_insn *p) {
	size_t n = 0;
	if (d->type != 'a')
		p[n++] =
		    insn(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 0, d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (d->access != 7) {
		p[n++] = insn(BPF_ALU64 | BPF_MOV | BPF_X, 6, 3, 0, 0);
		p[n++] = insn(BPF_ALU64 | BPF_AND | BPF_K, 6, 0, 0,
			      d->allow ? ~access_bits(d->access) & 7 : access_bits(d->access));
		p[n++] = insn(BPF_JMP | (d->allow ? BPF_JNE : BPF_JEQ) | BPF_K, 6, 0, 0, 0);
	}
	if (d->major >= 0)
		p[n++] = insn(BPF_JMP | BPF_JNE | BPF_K, 4, 0, 0, (int32_t)d->major);
	if (d->minor >= 0)
		p[n++] = insn(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 0, (int32_t)d->minor);
	size_t end = n + 2;
	for (size_t i = 0; i < n; i++)
		if (BPF_CLASS(p[i].code) == BPF_JMP)
			p[i].off = (int16_t)(end - i - 1);
	p[n++] = insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, d->allow);
	p[n++] = insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return n;
}

#define PROGRAM_MAX (DEVICE_RULES_MAX * 8 + 16)

size_t device_program(const struct device_rules *rules, struct bpf_insn *ret, size_t room) {
	if (room < rules->n * 8 + 8)
		return 0;
	size_t n = prologue(ret);
	for (size_t i = rules->n; i-- > 0;) {
		n += rule_block(&rules->list[i], ret + n);
		/* What matches everything leaves nothing to reach. */
		if (rules->list[i].type == 'a' && rules->list[i].access == 7)
			return n;
	}
	ret[n++] = insn(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	ret[n++] = insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return n;
}

int device_rules_v2(int cgroup_fd, const struct device_rules *rules) {
	struct bpf_insn program[PROGRAM_MAX];
	size_t n = device_program(rules, program, ARRAY_SIZE(program));
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insn_cnt = (uint32_t)n,
		.insns = (uintptr_t)program,
		.license = (uintptr_t) "GPL",
	};
	CLEANUP_FD int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	if (fd < 0)
		return -errno;
	union bpf_attr attach = {
		.target_fd = (uint32_t)cgroup_fd,
		.attach_bpf_fd = (uint32_t)fd,
		.attach_type = BPF_CGROUP_DEVICE,
		.attach_flags = BPF_F_ALLOW_MULTI,
	};
	return syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof(attach)) < 0 ? -errno : 0;
}
