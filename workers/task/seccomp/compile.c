/*
 * A profile as a classic BPF program.
 *
 * The time that seccomp(2) takes grows with the program's length times the
 * number of system calls (the kernel tries each call beforehand), and it is
 * paid for each container. So calls with the same fate that are neighbours are
 * one span, and a binary search over the spans finds the fate: less than half
 * the length of what libseccomp makes, compiled without its heap in less than
 * a millisecond.
 *
 * The program is built from its end: a jump knows how far its target is,
 * because the target is already there. A label is an instruction's distance
 * from the end. Conditional jumps reach 255 instructions; where that isn't
 * enough a "return" is repeated and anything else is reached by a far jump.
 *
 * Failure: a program longer than the kernel takes is an error.
 */
#include "profile.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>

#define X32_FIRST 0x40000000u
#define ARM_PRIVATE 0xf0000u /* set_tls and friends are far above the others */
#define NEAR_MAX 250	     /* of the 255, as operands may add a jump each */

struct code {
	struct sock_filter ins[BPF_MAXINSNS]; /* reversed */
	size_t n;
	bool overflow;
};

/* What happens to one call: an action, or (chain) its rules one by one. */
struct fate {
	uint32_t number;
	uint32_t action;
	bool chain;
};

struct table {
	const struct seccomp_profile *profile;
	struct fate *fates; /* sorted by number; after table_spans: of spans' first numbers */
	size_t n, room;
	struct code *code;
	uint32_t archs; /* those of this token */
	bool failed;
};

static size_t emit(struct code *c, uint16_t op, uint32_t k, uint8_t jt, uint8_t jf) {
	if (c->n == BPF_MAXINSNS) {
		c->overflow = true;
		return 0;
	}
	c->ins[c->n] = (struct sock_filter){ .code = op, .jt = jt, .jf = jf, .k = k };
	return c->n++;
}

/* A label that the next instructions can reach and that leads to label. */
static size_t near(struct code *c, size_t label) {
	if (c->n - label <= NEAR_MAX)
		return label;
	if (BPF_CLASS(c->ins[label].code) == BPF_RET)
		return emit(c, BPF_RET | BPF_K, c->ins[label].k, 0, 0);
	return emit(c, BPF_JMP | BPF_JA, (uint32_t)(c->n - label - 1), 0, 0);
}

/* Makes label what an instruction that is emitted next falls into. */
static void emit_fall(struct code *c, size_t label) {
	if (label + 1 != c->n)
		emit(c, BPF_JMP | BPF_JA, (uint32_t)(c->n - label - 1), 0, 0);
}

static size_t emit_return(struct code *c, uint32_t action) {
	size_t end = c->n > NEAR_MAX ? c->n - NEAR_MAX : 0;
	for (size_t i = c->n; i > end; i--)
		if (c->ins[i - 1].code == (BPF_RET | BPF_K) && c->ins[i - 1].k == action)
			return i - 1;
	return emit(c, BPF_RET | BPF_K, action, 0, 0);
}

static size_t emit_jump(struct code *c, uint16_t op, uint32_t k, size_t yes, size_t no) {
	yes = near(c, yes);
	no = near(c, no);
	return emit(c, BPF_JMP | op | BPF_K, k, (uint8_t)(c->n - yes - 1), (uint8_t)(c->n - no - 1));
}

static void emit_load(struct code *c, size_t offset, uint32_t mask) {
	if (mask != UINT32_MAX)
		emit(c, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	emit(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

/* --- rules with conditions --- */

/* One half of a 64-bit argument, in the machine's order. */
static size_t arg_offset(unsigned arg, bool high) {
	bool second = high == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
	return offsetof(struct seccomp_data, args) + arg * 8 + (second ? 4 : 0);
}

/* Goes to yes or no; A is lost. */
static size_t emit_condition(struct code *c, const struct seccomp_condition *t, size_t yes, size_t no) {
	enum seccomp_op op = t->op;
	if (op == SECCOMP_OP_NE || op == SECCOMP_OP_LT || op == SECCOMP_OP_LE) {
		op = op == SECCOMP_OP_NE ? SECCOMP_OP_EQ : op == SECCOMP_OP_LT ? SECCOMP_OP_GE : SECCOMP_OP_GT;
		size_t swap = yes;
		yes = no;
		no = swap;
	}
	uint32_t low = (uint32_t)t->value, high = (uint32_t)(t->value >> 32);
	uint32_t mask_low = (uint32_t)t->mask, mask_high = (uint32_t)(t->mask >> 32);
	uint16_t jump = op == SECCOMP_OP_EQ ? BPF_JEQ : op == SECCOMP_OP_GE ? BPF_JGE : BPF_JGT;
	emit_jump(c, jump, low, yes, no);
	emit_load(c, arg_offset(t->arg, false), mask_low);
	size_t label = c->n - 1;
	if (mask_high == 0 && high == 0)
		return label;
	label = emit_jump(c, BPF_JEQ, high, label, no);
	if (op != SECCOMP_OP_EQ)
		emit_jump(c, BPF_JGT, high, yes, label);
	emit_load(c, arg_offset(t->arg, true), mask_high);
	return c->n - 1;
}

static bool rule_counts(const struct seccomp_profile *p, const struct seccomp_rule *rule) {
	return rule->action != p->default_action;
}

static bool rule_names(const struct table *t, const struct seccomp_rule *rule, uint32_t number) {
	for (unsigned a = 0; a < SECCOMP_ARCH_COUNT; a++)
		if (t->archs & 1u << a && seccomp_number(a, rule->name) == (int)number)
			return true;
	return false;
}

static size_t emit_chain(struct table *t, uint32_t number) {
	const struct seccomp_profile *p = t->profile;
	size_t next = emit_return(t->code, p->default_action);
	for (size_t i = p->n_rules; i > 0; i--) {
		const struct seccomp_rule *rule = &p->rules[i - 1];
		if (!rule_counts(p, rule) || !rule_names(t, rule, number))
			continue;
		size_t yes = emit_return(t->code, rule->action);
		for (unsigned k = rule->n_conditions; k > 0; k--)
			yes = emit_condition(t->code, &rule->conditions[k - 1], yes, next);
		next = yes;
	}
	return next;
}

/* --- from rules to spans --- */

static void table_add(struct table *t, struct fate fate) {
	if (t->n == t->room) {
		size_t room = t->room ? t->room * 2 : 512;
		struct fate *more = reallocarray(t->fates, room, sizeof(*more));
		if (!more) {
			t->failed = true;
			return;
		}
		t->fates = more;
		t->room = room;
	}
	t->fates[t->n++] = fate;
}

static struct fate *table_find(struct table *t, uint32_t number) {
	for (size_t i = 0; i < t->n; i++)
		if (t->fates[i].number == number)
			return &t->fates[i];
	return NULL;
}

static void table_rule(struct table *t, const struct seccomp_rule *rule, uint32_t number) {
	bool conditional = rule->n_conditions > 0;
	struct fate *known = table_find(t, number);
	if (!known)
		table_add(t, (struct fate){ .number = number, .action = rule->action, .chain = conditional });
	else if (known->chain && !conditional)
		*known = (struct fate){ .number = number, .action = rule->action };
}

static int fate_order(const void *a, const void *b) {
	uint32_t x = ((const struct fate *)a)->number, y = ((const struct fate *)b)->number;
	return (x > y) - (x < y);
}

/* Collects one architecture's calls and returns the newest one's number. */
static uint32_t table_collect(struct table *t, enum seccomp_arch arch) {
	const struct seccomp_profile *p = t->profile;
	uint32_t newest = arch == SECCOMP_ARCH_X32 ? X32_FIRST : 0;
	for (size_t i = 0; i < p->n_rules; i++) {
		int number = seccomp_number(arch, p->rules[i].name);
		if (number < 0)
			continue;
		if (arch != SECCOMP_ARCH_ARM || (uint32_t)number < ARM_PRIVATE)
			newest = MAX(newest, (uint32_t)number);
		if (rule_counts(p, &p->rules[i]))
			table_rule(t, &p->rules[i], (uint32_t)number);
	}
	return newest;
}

static bool action_denies(uint32_t action) {
	uint32_t what = action & SECCOMP_RET_ACTION_FULL;
	return what != SECCOMP_RET_ALLOW && what != SECCOMP_RET_LOG && what != SECCOMP_RET_TRACE;
}

static bool fate_same(const struct fate *a, const struct fate *b) {
	return !a->chain && !b->chain && a->action == b->action;
}

static void span_add(struct table *t, struct fate fate) {
	if (t->n == 0 || !fate_same(&t->fates[t->n - 1], &fate))
		table_add(t, fate);
}

/* Fills the gaps: from single numbers to spans, each up to the next one. */
static void table_spans(struct table *t, uint32_t first, uint32_t newest, const struct fate *fates, size_t n) {
	uint32_t other = t->profile->default_action;
	uint32_t beyond = action_denies(other) ? (SECCOMP_RET_ERRNO | ENOSYS) : other;
	uint32_t next = first; /* the first number that has no span yet */
	bool passed = false;   /* the newest is behind us */
	for (size_t i = 0; i <= n; i++) {
		uint32_t number = i < n ? fates[i].number : UINT32_MAX;
		if (!passed && number > newest) {
			if (next <= newest)
				span_add(t, (struct fate){ .number = next, .action = other });
			next = MAX(next, newest + 1);
			passed = true;
		}
		if (next < number)
			span_add(t, (struct fate){ .number = next, .action = passed ? beyond : other });
		if (i < n) {
			span_add(t, fates[i]);
			next = number + 1;
		}
	}
}

/* The binary search over spans [low, high]; its depth is log2 of their number. */
static size_t emit_search(struct table *t, size_t low, size_t high) {
	if (low == high) {
		const struct fate *f = &t->fates[low];
		return f->chain ? emit_chain(t, f->number) : emit_return(t->code, f->action);
	}
	size_t middle = low + (high - low + 1) / 2;
	size_t right = emit_search(t, middle, high);
	size_t left = emit_search(t, low, middle - 1);
	return emit_jump(t->code, BPF_JGE, t->fates[middle].number, right, left);
}

/* Adds the spans of one architecture that starts at number first. */
static void table_arch(struct table *t, enum seccomp_arch arch, uint32_t first) {
	struct table single = { .profile = t->profile, .archs = t->archs };
	uint32_t newest = table_collect(&single, arch);
	if (single.n)
		qsort(single.fates, single.n, sizeof(*single.fates), fate_order);
	table_spans(t, first, newest, single.fates, single.n);
	t->failed |= single.failed;
	free(single.fates);
}

/* --- the whole program --- */

static const struct token {
	uint32_t audit;
	enum seccomp_arch arch;
} tokens[] = {
	{ .audit = AUDIT_ARCH_X86_64, .arch = SECCOMP_ARCH_X86_64 },
	{ .audit = AUDIT_ARCH_I386, .arch = SECCOMP_ARCH_X86 },
	{ .audit = AUDIT_ARCH_AARCH64, .arch = SECCOMP_ARCH_AARCH64 },
	{ .audit = AUDIT_ARCH_ARM, .arch = SECCOMP_ARCH_ARM },
};

/* x32's calls come under x86_64's token, told apart by a bit of the number. */
static uint32_t token_archs(const struct seccomp_profile *p, const struct token *token) {
	uint32_t mine = 1u << token->arch;
	if (token->arch == SECCOMP_ARCH_X86_64)
		mine |= 1u << SECCOMP_ARCH_X32;
	return p->archs & mine;
}

static int emit_token(const struct seccomp_profile *p, struct code *c, const struct token *token, size_t *ret_label) {
	struct table t = { .profile = p, .code = c, .archs = token_archs(p, token) };
	if (t.archs & 1u << token->arch)
		table_arch(&t, token->arch, 0);
	else
		span_add(&t, (struct fate){ .action = SECCOMP_RET_KILL_PROCESS });
	if (t.archs & 1u << SECCOMP_ARCH_X32)
		table_arch(&t, SECCOMP_ARCH_X32, X32_FIRST);
	else if (token->arch == SECCOMP_ARCH_X86_64)
		span_add(&t, (struct fate){ .number = X32_FIRST, .action = SECCOMP_RET_KILL_PROCESS });
	if (!t.failed) {
		emit_fall(c, emit_search(&t, 0, t.n - 1));
		*ret_label = emit(c, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
	}
	free(t.fates);
	return t.failed ? -ENOMEM : 0;
}

static int emit_program(const struct seccomp_profile *p, struct code *c) {
	size_t next = emit_return(c, SECCOMP_RET_KILL_PROCESS);
	for (size_t i = ARRAY_SIZE(tokens); i > 0; i--) {
		if (!token_archs(p, &tokens[i - 1]))
			continue;
		size_t body = 0;
		int r = emit_token(p, c, &tokens[i - 1], &body);
		if (r < 0)
			return r;
		next = emit_jump(c, BPF_JEQ, tokens[i - 1].audit, body, next);
	}
	emit(c, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch), 0, 0);
	return 0;
}

int profile_compile(const struct seccomp_profile *p, struct seccomp_program *ret_program, struct fault *fault) {
	CLEANUP_FREE struct code *c = calloc(1, sizeof(*c));
	int r = !c || p->failed ? -ENOMEM : emit_program(p, c);
	if (r < 0)
		return fault_errno(fault, r, "compile the seccomp profile");
	if (c->overflow)
		return fault_set(fault, FAULT_INVALID_ARGUMENT,
				 "the seccomp profile is too long: the kernel takes %d instructions", BPF_MAXINSNS);
	struct sock_filter *filter = calloc(c->n, sizeof(*filter));
	if (!filter)
		return fault_errno(fault, ENOMEM, "compile the seccomp profile");
	for (size_t i = 0; i < c->n; i++)
		filter[i] = c->ins[c->n - 1 - i];
	*ret_program = (struct seccomp_program){ .filter = filter, .length = c->n, .flags = p->flags };
	return 0;
}
