/*
 * A profile as the runtime-spec's message, for containers whose filter an OCI
 * runtime compiles.
 *
 * Conditions there are about all 64 bits, or equal under a mask. Those of ours
 * about an int's low half are said with masks, bit by bit where they compare:
 * x > v when x has a bit that v lacks and is equal above it.
 * Failure: such a comparison beside other conditions has no such form; nothing
 * that this worker reads makes one.
 */
#include "profile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

struct calls {
	struct arena *arena;
	Grpc__LinuxSyscall **v;
	size_t n, room;
};

static const struct {
	uint32_t action;
	const char *name;
} actions[] = {
	{ SECCOMP_RET_ALLOW, "SCMP_ACT_ALLOW" },
	{ SECCOMP_RET_ERRNO, "SCMP_ACT_ERRNO" },
	{ SECCOMP_RET_KILL_PROCESS, "SCMP_ACT_KILL_PROCESS" },
	{ SECCOMP_RET_KILL_THREAD, "SCMP_ACT_KILL_THREAD" },
	{ SECCOMP_RET_LOG, "SCMP_ACT_LOG" },
	{ SECCOMP_RET_TRACE, "SCMP_ACT_TRACE" },
	{ SECCOMP_RET_TRAP, "SCMP_ACT_TRAP" },
};

static const char *const ops[] = {
	[SECCOMP_OP_NE] = "SCMP_CMP_NE", [SECCOMP_OP_LT] = "SCMP_CMP_LT", [SECCOMP_OP_LE] = "SCMP_CMP_LE",
	[SECCOMP_OP_EQ] = "SCMP_CMP_EQ", [SECCOMP_OP_GE] = "SCMP_CMP_GE", [SECCOMP_OP_GT] = "SCMP_CMP_GT",
};

static const char *const archs[] = {
	[SECCOMP_ARCH_X86_64] = "SCMP_ARCH_X86_64", [SECCOMP_ARCH_X86] = "SCMP_ARCH_X86",
	[SECCOMP_ARCH_X32] = "SCMP_ARCH_X32",	    [SECCOMP_ARCH_AARCH64] = "SCMP_ARCH_AARCH64",
	[SECCOMP_ARCH_ARM] = "SCMP_ARCH_ARM",
};

static const struct {
	uint32_t flag;
	const char *name;
} flags[] = {
	{ SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC" },
	{ SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG" },
	{ SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW" },
};

static const char *action_name(uint32_t action) {
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (actions[i].action == (action & SECCOMP_RET_ACTION_FULL))
			return actions[i].name;
	return NULL;
}

static bool has_data(uint32_t action) {
	uint32_t a = action & SECCOMP_RET_ACTION_FULL;
	return a == SECCOMP_RET_ERRNO || a == SECCOMP_RET_TRACE;
}

static bool list_add(struct calls *l, Grpc__LinuxSyscall *item) {
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 256;
		Grpc__LinuxSyscall **more = arena_alloc(l->arena, room * sizeof(*more));
		if (!more)
			return false;
		if (l->n)
			memcpy(more, l->v, l->n * sizeof(*more));
		l->v = more;
		l->room = room;
	}
	l->v[l->n++] = item;
	return true;
}

static Grpc__LinuxSyscall *rule_begin(struct calls *l, const struct seccomp_rule *rule) {
	Grpc__LinuxSyscall *s = arena_alloc(l->arena, sizeof(*s));
	char **names = arena_alloc(l->arena, sizeof(*names));
	if (!s || !names)
		return NULL;
	*s = (Grpc__LinuxSyscall)GRPC__LINUX_SYSCALL__INIT;
	names[0] = arena_strdup(l->arena, rule->name);
	s->names = names;
	s->n_names = 1;
	s->action = (char *)(uintptr_t)action_name(rule->action);
	if (has_data(rule->action)) {
		s->errno_ret_case = GRPC__LINUX_SYSCALL__ERRNO_RET_ERRNORET;
		s->errnoret = rule->action & SECCOMP_RET_DATA;
	}
	s->args = arena_alloc(l->arena, SECCOMP_ARGS_MAX * sizeof(*s->args));
	return names[0] && s->action && s->args && list_add(l, s) ? s : NULL;
}

static bool condition_add(struct calls *l, Grpc__LinuxSyscall *s, uint8_t arg, const char *op, uint64_t value,
			  uint64_t value_two) {
	Grpc__LinuxSeccompArg *a = arena_alloc(l->arena, sizeof(*a));
	if (!a)
		return false;
	*a = (Grpc__LinuxSeccompArg)GRPC__LINUX_SECCOMP_ARG__INIT;
	a->index = arg;
	a->op = (char *)(uintptr_t)op;
	a->value = value;
	a->valuetwo = value_two;
	s->args[s->n_args++] = a;
	return true;
}

static bool masked(struct calls *l, const struct seccomp_rule *rule, uint64_t mask, uint64_t value) {
	Grpc__LinuxSyscall *s = rule_begin(l, rule);
	return s && condition_add(l, s, rule->conditions[0].arg, "SCMP_CMP_MASKED_EQ", mask, value & mask);
}

/* One rule for each bit by which the argument may be above or below. */
static bool compare(struct calls *l, const struct seccomp_rule *rule) {
	const struct seccomp_condition *c = &rule->conditions[0];
	bool above = c->op == SECCOMP_OP_GT || c->op == SECCOMP_OP_GE || c->op == SECCOMP_OP_NE;
	bool below = c->op == SECCOMP_OP_LT || c->op == SECCOMP_OP_LE || c->op == SECCOMP_OP_NE;
	bool equal = c->op == SECCOMP_OP_GE || c->op == SECCOMP_OP_LE || c->op == SECCOMP_OP_EQ;
	bool good = !equal || masked(l, rule, c->mask, c->value);
	for (unsigned i = 0; good && i < 64; i++) {
		uint64_t bit = UINT64_C(1) << i;
		if (c->mask & bit && (c->value & bit ? below : above))
			good = masked(l, rule, c->mask & ~(bit - 1), c->value ^ bit);
	}
	return good;
}

static bool rule_write(struct calls *l, const struct seccomp_rule *rule, bool *ret_expressible) {
	bool whole = true;
	for (unsigned i = 0; i < rule->n_conditions; i++)
		whole &= rule->conditions[i].mask == UINT64_MAX || rule->conditions[i].op == SECCOMP_OP_EQ;
	if (!whole && rule->n_conditions == 1)
		return compare(l, rule);
	*ret_expressible &= whole;
	Grpc__LinuxSyscall *s = rule_begin(l, rule);
	bool good = s;
	for (unsigned i = 0; good && i < rule->n_conditions; i++) {
		const struct seccomp_condition *c = &rule->conditions[i];
		good = c->mask == UINT64_MAX ? condition_add(l, s, c->arg, ops[c->op], c->value, 0)
					     : condition_add(l, s, c->arg, "SCMP_CMP_MASKED_EQ", c->mask, c->value);
	}
	return good;
}

int profile_to_oci(const struct seccomp_profile *p, struct arena *a, Grpc__LinuxSeccomp **ret_message,
		   struct fault *fault) {
	struct calls l = { .arena = a };
	Grpc__LinuxSeccomp *m = arena_alloc(a, sizeof(*m));
	char **names = arena_alloc(a, (ARRAY_SIZE(archs) + ARRAY_SIZE(flags)) * sizeof(*names));
	bool expressible = action_name(p->default_action) != NULL, good = m && names;
	for (size_t i = 0; good && i < p->n_rules; i++) {
		expressible &= action_name(p->rules[i].action) != NULL;
		if (p->rules[i].action != p->default_action && expressible)
			good = rule_write(&l, &p->rules[i], &expressible);
	}
	if (!good)
		return fault_errno(fault, ENOMEM, "write a seccomp profile");
	/* The default's errno has no place in the message: it is EPERM there. */
	if (has_data(p->default_action) && (p->default_action & SECCOMP_RET_DATA) != EPERM)
		expressible = false;
	if (!expressible)
		return fault_set(fault, FAULT_UNIMPLEMENTED,
				 "this seccomp profile can't be handed to an OCI runtime; the native handler takes it");
	*m = (Grpc__LinuxSeccomp)GRPC__LINUX_SECCOMP__INIT;
	m->defaultaction = (char *)(uintptr_t)action_name(p->default_action);
	m->architectures = names;
	for (size_t i = 0; i < ARRAY_SIZE(archs); i++)
		if (p->archs >> i & 1)
			m->architectures[m->n_architectures++] = (char *)(uintptr_t)archs[i];
	m->flags = names + ARRAY_SIZE(archs);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (p->flags & flags[i].flag)
			m->flags[m->n_flags++] = (char *)(uintptr_t)flags[i].name;
	m->syscalls = l.v;
	m->n_syscalls = l.n;
	*ret_message = m;
	return 0;
}
