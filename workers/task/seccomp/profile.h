/*
 * A seccomp profile between its sources (the built-in default, the OCI
 * message, Docker's JSON) and the compiler: a list of rules over the system
 * calls of a few architectures.
 *
 * What a rule means is what libseccomp makes of the same profile:
 *   - a call without a rule gets the default action;
 *   - a rule without conditions decides alone, the first one if there are more;
 *   - else the first rule whose conditions all hold decides;
 *   - a rule with the default action says nothing and is dropped;
 *   - a call newer than every call that the profile could know answers ENOSYS
 *     where the default is an error, so that programs fall back as on an old
 *     kernel (runc does this too).
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "base/list.h"
#include "seccomp.h"

#include <stdbool.h>
#include <stdint.h>

#define SECCOMP_ARGS_MAX 6

enum seccomp_op {
	SECCOMP_OP_NE,
	SECCOMP_OP_LT,
	SECCOMP_OP_LE,
	SECCOMP_OP_EQ,
	SECCOMP_OP_GE,
	SECCOMP_OP_GT,
};

/* (argument & mask) op value, on 64 bits. The kernel reads an int argument's
 * low half only: rules of ours about ints have the mask 0xffffffff, else a
 * high half that isn't 0 would slip by. */
struct seccomp_condition {
	uint8_t arg;
	enum seccomp_op op;
	uint64_t mask, value;
};

struct seccomp_rule {
	const char *name;
	uint32_t action; /* SECCOMP_RET_* with its data */
	unsigned n_conditions;
	struct seccomp_condition conditions[SECCOMP_ARGS_MAX];
};

enum seccomp_arch {
	SECCOMP_ARCH_X86_64,
	SECCOMP_ARCH_X86,
	SECCOMP_ARCH_X32,
	SECCOMP_ARCH_AARCH64,
	SECCOMP_ARCH_ARM,
	SECCOMP_ARCH_COUNT
};

struct seccomp_profile {
	struct arena arena; /* of the rules and their names */
	uint32_t default_action;
	uint32_t archs; /* 1 << enum seccomp_arch */
	uint32_t flags; /* SECCOMP_FILTER_FLAG_* */
	struct seccomp_rule *rules;
	size_t n_rules, room;
	bool failed; /* out of memory, sticky */
};

void profile_init(struct seccomp_profile *p);
void profile_deinit(struct seccomp_profile *p);
#define CLEANUP_PROFILE CLEANUP(profile_deinit)
/* name is copied; conditions may be NULL. */
void profile_add(struct seccomp_profile *p, const char *name, uint32_t action,
		 const struct seccomp_condition *conditions, unsigned n_conditions);

/* --- sources --- */

/* What this machine runs: the native architecture and its 32-bit kin. */
uint32_t profile_native_archs(void);
/* Capabilities that open something in the default profile (1 << CAP_*). */
uint64_t profile_default_capabilities(void);
void profile_default(struct seccomp_profile *p, uint64_t capabilities);
int profile_from_oci(struct seccomp_profile *p, const Grpc__LinuxSeccomp *m, struct fault *fault);
/* Docker's form (includes and excludes by capability, architecture and kernel)
 * and the runtime-spec's own, which is the same without these. */
int profile_from_json(struct seccomp_profile *p, const char *json, size_t size, uint64_t capabilities,
		      struct fault *fault);

/* Words that both forms share; -EINVAL with a sentence. */
int profile_action(const char *word, bool has_errno, uint32_t error, uint32_t *ret_action, struct fault *fault);
int profile_arch(const char *word, uint32_t *ret_archs);
int profile_flag(const char *word, uint32_t *ret_flags, struct fault *fault);
int profile_condition(const char *op, uint64_t arg, uint64_t value, uint64_t value_two,
		      struct seccomp_condition *ret_condition, struct fault *fault);

/* message.c: the same as the message, in the arena. */
int profile_to_oci(const struct seccomp_profile *p, struct arena *a, Grpc__LinuxSeccomp **ret_message,
		   struct fault *fault);

/* --- capability.c, names.c and compile.c --- */

/* "CAP_CHOWN" as a set of one; empty when there is none of this name. */
uint64_t seccomp_capability(const char *name);

/* The number of a system call on an architecture, negative when it has none. */
int seccomp_number(enum seccomp_arch arch, const char *name);
/* The filter is from malloc. */
int profile_compile(const struct seccomp_profile *p, struct seccomp_program *ret_program, struct fault *fault);
