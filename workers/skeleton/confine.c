#include "workers/skeleton/confine.h"

#include "workers/skeleton/root.h"

#include <errno.h>
#include <grp.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- limits --- */

/* What can't be raised stays at what there is: a machine may grant less. */
static int limit(int resource, const char *name, const struct rlimit *wanted, struct fault *fault) {
	if (wanted->rlim_max == BOOT_LIMIT_KEEP)
		return 0;
	struct rlimit now, l = *wanted;
	if (getrlimit(resource, &now) < 0)
		return fault_errno(fault, errno, "read the limit %s", name);
	if (setrlimit(resource, &l) == 0)
		return 0;
	l.rlim_max = MIN(l.rlim_max, now.rlim_max);
	l.rlim_cur = MIN(l.rlim_cur, l.rlim_max);
	return setrlimit(resource, &l) < 0 ? fault_errno(fault, errno, "set the limit %s", name) : 0;
}

static int limits(const struct boot_privileges *p, struct fault *fault) {
	int r = limit(RLIMIT_NOFILE, "nofile", &p->nofile, fault);
	if (r == 0)
		r = limit(RLIMIT_MEMLOCK, "memlock", &p->memlock, fault);
	if (r == 0)
		r = limit(RLIMIT_CORE, "core", &p->core, fault);
	return r == 0 ? limit(RLIMIT_NPROC, "nproc", &p->nproc, fault) : r;
}

/* --- identity --- */

static int bounding_drop(uint64_t keep, struct fault *fault) {
	for (cap_value_t c = 0; c < cap_max_bits(); c++) {
		if ((keep >> c) & 1 || cap_get_bound(c) != 1)
			continue;
		if (cap_drop_bound(c) < 0)
			return fault_errno(fault, errno, "drop capability %d from the bounding set", c);
	}
	return 0;
}

static void cap_free_p(cap_t *c) {
	if (*c)
		cap_free(*c);
}

static int capabilities_set(uint64_t set, struct fault *fault) {
	CLEANUP(cap_free_p) cap_t caps = cap_init();
	if (!caps)
		return fault_errno(fault, ENOMEM, "set capabilities");
	for (cap_value_t c = 0; c < cap_max_bits(); c++) {
		if (!((set >> c) & 1))
			continue;
		if (cap_set_flag(caps, CAP_PERMITTED, 1, &c, CAP_SET) < 0 ||
		    cap_set_flag(caps, CAP_EFFECTIVE, 1, &c, CAP_SET) < 0)
			return fault_errno(fault, errno, "set capability %d", c);
	}
	if (cap_set_proc(caps) < 0)
		return fault_errno(fault, errno, "set capabilities (the supervisor needs those of the row itself)");
	return 0;
}

/* The order matters: the bounding set while there is CAP_SETPCAP, groups and
 * uid while there are CAP_SETGID and CAP_SETUID, capabilities last. */
static int identity(const struct boot_privileges *p, struct fault *fault) {
	if (p->capabilities == BOOT_CAPABILITIES_ALL)
		return 0;
	int r = bounding_drop(p->capabilities, fault);
	if (r < 0)
		return r;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return fault_errno(fault, errno, "prepare the change of user");
	if (setgroups(0, NULL) < 0 || setresgid(p->gid, p->gid, p->gid) < 0 || setresuid(p->uid, p->uid, p->uid) < 0)
		return fault_errno(fault, errno, "become uid %u gid %u", p->uid, p->gid);
	r = capabilities_set(p->capabilities, fault);
	if (r < 0)
		return r;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return fault_errno(fault, errno, "end the change of user");
	return 0;
}

int confine_surroundings(const struct boot_privileges *p, struct fault *fault) {
	int r = limits(p, fault);
	if (r < 0)
		return r;
	if (p->unshare && unshare((int)p->unshare) < 0)
		return fault_errno(fault, errno, "make namespaces");
	if (p->empty_root) {
		r = root_replace(p->visible, p->n_visible, fault);
		if (r < 0)
			return r;
	}
	r = identity(p, fault);
	if (r < 0)
		return r;
	/* A change of uid has cleared it. Whether the supervisor died meanwhile
	 * shows on the control socket. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return fault_errno(fault, errno, "ask for the parent's death signal");
	/* Neither a core file nor a debugger of the same uid. */
	if (p->capabilities != BOOT_CAPABILITIES_ALL && prctl(PR_SET_DUMPABLE, 0) < 0)
		return fault_errno(fault, errno, "forbid tracing");
	if (p->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fault_errno(fault, errno, "forbid new privileges");
	return 0;
}

int confine_calls(const struct boot_privileges *p, struct loop *loop, struct fault *fault) {
	int r = loop_enable(loop, p->opcodes, p->n_opcodes);
	if (r < 0)
		return fault_errno(fault, r, "restrict io_uring");
	if (p->n_bpf == 0)
		return 0;
	struct sock_fprog program = { .len = (unsigned short)p->n_bpf, .filter = (struct sock_filter *)p->bpf };
	/* LOG: what is refused shows in the kernel's log. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &program) < 0)
		return fault_errno(fault, errno, "install the system call filter");
	return 0;
}
