/*
 * Building profiles, and the words that every source of them shares.
 *
 * Owns: the rules' array; everything lives in the profile's arena.
 * Failure: out of memory is sticky and told by profile_compile; a word that
 * means nothing is an error that quotes it. A profile that we don't fully
 * understand must never run as a weaker one.
 */
#include "profile.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

/* A profile of a few thousand rules is already absurd. */
#define PROFILE_ARENA_MAX (4u << 20)

void profile_init(struct seccomp_profile *p) {
	*p = (struct seccomp_profile){ .default_action = SECCOMP_RET_ALLOW };
	arena_init(&p->arena, PROFILE_ARENA_MAX);
}

void profile_deinit(struct seccomp_profile *p) {
	free(p->rules);
	arena_deinit(&p->arena);
	*p = (struct seccomp_profile){ 0 };
}

static struct seccomp_rule *rule_reserve(struct seccomp_profile *p) {
	if (p->n_rules == p->room) {
		size_t room = p->room ? p->room * 2 : 128;
		struct seccomp_rule *more = reallocarray(p->rules, room, sizeof(*more));
		if (!more)
			return NULL;
		p->rules = more;
		p->room = room;
	}
	return &p->rules[p->n_rules];
}

void profile_add(struct seccomp_profile *p, const char *name, uint32_t action,
		 const struct seccomp_condition *conditions, unsigned n_conditions) {
	struct seccomp_rule *rule = rule_reserve(p);
	const char *copy = arena_strdup(&p->arena, name);
	if (!rule || !copy || n_conditions > SECCOMP_ARGS_MAX) {
		p->failed = true;
		return;
	}
	*rule = (struct seccomp_rule){ .name = copy, .action = action, .n_conditions = n_conditions };
	if (n_conditions)
		memcpy(rule->conditions, conditions, n_conditions * sizeof(*conditions));
	p->n_rules++;
}

static const struct {
	const char *word;
	uint32_t action;
	bool takes_errno;
} actions[] = {
	{ .word = "SCMP_ACT_ALLOW", .action = SECCOMP_RET_ALLOW },
	{ .word = "SCMP_ACT_ERRNO", .action = SECCOMP_RET_ERRNO, .takes_errno = true },
	{ .word = "SCMP_ACT_KILL", .action = SECCOMP_RET_KILL_THREAD },
	{ .word = "SCMP_ACT_KILL_THREAD", .action = SECCOMP_RET_KILL_THREAD },
	{ .word = "SCMP_ACT_KILL_PROCESS", .action = SECCOMP_RET_KILL_PROCESS },
	{ .word = "SCMP_ACT_TRAP", .action = SECCOMP_RET_TRAP },
	{ .word = "SCMP_ACT_TRACE", .action = SECCOMP_RET_TRACE, .takes_errno = true },
	{ .word = "SCMP_ACT_LOG", .action = SECCOMP_RET_LOG },
};

int profile_action(const char *word, bool has_errno, uint32_t error, uint32_t *ret_action, struct fault *fault) {
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(word, actions[i].word) != 0)
			continue;
		uint32_t data = actions[i].takes_errno ? (has_errno ? error : EPERM) : 0;
		if (data > SECCOMP_RET_DATA)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: error number %u is too large", data);
		*ret_action = actions[i].action | data;
		return 0;
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: action \"%.60s\" isn't known or isn't supported",
			 word);
}

static const struct {
	const char *word;
	uint32_t archs;
} archs[] = {
	{ .word = "SCMP_ARCH_X86_64", .archs = 1u << SECCOMP_ARCH_X86_64 },
	{ .word = "SCMP_ARCH_X86", .archs = 1u << SECCOMP_ARCH_X86 },
	{ .word = "SCMP_ARCH_X32", .archs = 1u << SECCOMP_ARCH_X32 },
	{ .word = "SCMP_ARCH_AARCH64", .archs = 1u << SECCOMP_ARCH_AARCH64 },
	{ .word = "SCMP_ARCH_ARM", .archs = 1u << SECCOMP_ARCH_ARM },
	{ .word = "SCMP_ARCH_NATIVE", .archs = UINT32_MAX },
};

uint32_t profile_native_archs(void) {
#if defined(__x86_64__)
	return 1u << SECCOMP_ARCH_X86_64 | 1u << SECCOMP_ARCH_X86 | 1u << SECCOMP_ARCH_X32;
#elif defined(__aarch64__)
	return 1u << SECCOMP_ARCH_AARCH64 | 1u << SECCOMP_ARCH_ARM;
#else
#error "say which architectures' system calls this machine has"
#endif
}

/* Those of other machines are no error: profiles list them all. */
int profile_arch(const char *word, uint32_t *ret_archs) {
	for (size_t i = 0; i < ARRAY_SIZE(archs); i++) {
		if (strcmp(word, archs[i].word) == 0) {
			*ret_archs = archs[i].archs & profile_native_archs();
			return 0;
		}
	}
	*ret_archs = 0;
	return strncmp(word, "SCMP_ARCH_", 10) == 0 ? 0 : -EINVAL;
}

static const struct {
	const char *word;
	uint32_t flag;
} flags[] = {
	{ .word = "SECCOMP_FILTER_FLAG_TSYNC", .flag = SECCOMP_FILTER_FLAG_TSYNC },
	{ .word = "SECCOMP_FILTER_FLAG_LOG", .flag = SECCOMP_FILTER_FLAG_LOG },
	{ .word = "SECCOMP_FILTER_FLAG_SPEC_ALLOW", .flag = SECCOMP_FILTER_FLAG_SPEC_ALLOW },
};

int profile_flag(const char *word, uint32_t *ret_flags, struct fault *fault) {
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (strcmp(word, flags[i].word) == 0) {
			*ret_flags |= flags[i].flag;
			return 0;
		}
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: flag \"%.60s\" isn't supported", word);
}

static const struct {
	const char *word;
	enum seccomp_op op;
	bool masked;
} ops[] = {
	{ .word = "SCMP_CMP_NE", .op = SECCOMP_OP_NE },
	{ .word = "SCMP_CMP_LT", .op = SECCOMP_OP_LT },
	{ .word = "SCMP_CMP_LE", .op = SECCOMP_OP_LE },
	{ .word = "SCMP_CMP_EQ", .op = SECCOMP_OP_EQ },
	{ .word = "SCMP_CMP_GE", .op = SECCOMP_OP_GE },
	{ .word = "SCMP_CMP_GT", .op = SECCOMP_OP_GT },
	{ .word = "SCMP_CMP_MASKED_EQ", .op = SECCOMP_OP_EQ, .masked = true },
};

int profile_condition(const char *op, uint64_t arg, uint64_t value, uint64_t value_two,
		      struct seccomp_condition *ret_condition, struct fault *fault) {
	if (arg >= SECCOMP_ARGS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: a system call has no argument %llu",
				 (unsigned long long)arg);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (strcmp(op, ops[i].word) != 0)
			continue;
		*ret_condition = (struct seccomp_condition){
			.arg = (uint8_t)arg,
			.op = ops[i].op,
			.mask = ops[i].masked ? value : UINT64_MAX,
			.value = ops[i].masked ? value_two : value,
		};
		return 0;
	}
	return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: comparison \"%.60s\" isn't known", op);
}
