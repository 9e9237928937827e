/*
 * A profile from the runtime-spec's message, as a Spec carries it.
 *
 * Failure: anything that isn't understood refuses the container.
 */
#include "profile.h"

#include <errno.h>
#include <string.h>

static int oci_syscall(struct seccomp_profile *p, const Grpc__LinuxSyscall *m, struct fault *fault) {
	uint32_t action;
	bool has_errno = m->errno_ret_case == GRPC__LINUX_SYSCALL__ERRNO_RET_ERRNORET;
	int r = profile_action(m->action, has_errno, has_errno ? m->errnoret : 0, &action, fault);
	if (r < 0)
		return r;
	struct seccomp_condition conditions[SECCOMP_ARGS_MAX];
	if (m->n_args > SECCOMP_ARGS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: a rule has %zu conditions", m->n_args);
	for (size_t i = 0; r >= 0 && i < m->n_args; i++)
		r = profile_condition(m->args[i]->op, m->args[i]->index, m->args[i]->value, m->args[i]->valuetwo,
				      &conditions[i], fault);
	for (size_t i = 0; r >= 0 && i < m->n_names; i++)
		profile_add(p, m->names[i], action, conditions, (unsigned)m->n_args);
	return r;
}

int profile_from_oci(struct seccomp_profile *p, const Grpc__LinuxSeccomp *m, struct fault *fault) {
	int r = profile_action(m->defaultaction, false, 0, &p->default_action, fault);
	for (size_t i = 0; r >= 0 && i < m->n_architectures; i++) {
		uint32_t archs;
		if (profile_arch(m->architectures[i], &archs) < 0)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: architecture \"%.60s\" isn't known",
					 m->architectures[i]);
		p->archs |= archs;
	}
	p->archs |= profile_native_archs() & (1u << SECCOMP_ARCH_X86_64 | 1u << SECCOMP_ARCH_AARCH64);
	for (size_t i = 0; r >= 0 && i < m->n_flags; i++)
		r = profile_flag(m->flags[i], &p->flags, fault);
	for (size_t i = 0; r >= 0 && i < m->n_syscalls; i++)
		r = oci_syscall(p, m->syscalls[i], fault);
	return r;
}
