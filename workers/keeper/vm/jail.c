/*
 * Stand-ins have nothing to say but what their guest process does, and the relay
 * reads what the guest says: both live on the descriptors that they have.
 */
#include "workers/keeper/vm/vm.h"

#include "base/calls.h"
#include "boot/boot.h"

#include <grp.h>
#include <linux/capability.h>
#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Packets and streams. */
#define CALLS_ALL                                                                                                  \
	SYS_read, SYS_write, SYS_recvmsg, SYS_sendmsg, SYS_ppoll, SYS_close, SYS_ioctl, SYS_fstat, SYS_newfstatat, \
	    SYS_recvfrom, SYS_sendto, CALLS_OF_LIBC

#if defined(__x86_64__)
#define CALLS_OLD SYS_poll,
#else
#define CALLS_OLD
#endif

static const unsigned stand_in_calls[] = { CALLS_OLD CALLS_ALL };
static const unsigned relay_calls[] = {
	SYS_io_uring_enter, SYS_getsockopt,	   SYS_fcntl,	  SYS_waitid,  SYS_readv,
	SYS_writev,	    SYS_pidfd_send_signal, SYS_ftruncate, SYS_accept4, CALLS_OLD CALLS_ALL
};

static const struct {
	const unsigned *calls;
	size_t n_calls;
} jails[] = {
	[VM_JAIL_STAND_IN] = { stand_in_calls, ARRAY_SIZE(stand_in_calls) },
	[VM_JAIL_RELAY] = { relay_calls, ARRAY_SIZE(relay_calls) },
};

static int identity_take(const struct boot_vm *c, struct fault *fault) {
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	if (setgroups(0, NULL) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 || setresuid(c->uid, c->uid, c->uid) < 0)
		return fault_errno(fault, errno, "become uid %u gid %u", c->uid, c->gid);
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return fault_errno(fault, errno, "drop capabilities");
	return 0;
}

int vm_jail_enter(enum vm_jail kind, const struct boot_vm *config, struct fault *fault) {
	struct rlimit none = { 0, 0 };
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return fault_errno(fault, errno, "set the limits");
	int r = identity_take(config, fault);
	return r < 0 ? r : calls_restrict(jails[kind].calls, jails[kind].n_calls, fault);
}
