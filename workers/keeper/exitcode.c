#include "workers/keeper/exitcode.h"

#include <errno.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

/* linux/pidfd.h of 6.15; older headers lack it. */
struct pidfd_info {
	__u64 mask;
	__u64 cgroupid;
	__u32 pid, tgid, ppid;
	__u32 ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	__s32 exit_code;
};
#define INFO_EXIT (UINT64_C(1) << 3)
#define GET_INFO _IOWR(0xFF, 11, struct pidfd_info)

int exitcode_of(int pidfd, uint32_t *ret_code) {
	struct pidfd_info info = { .mask = INFO_EXIT };
	int r = ioctl(pidfd, GET_INFO, &info);
	/* Reaped between the kernel's look for the code and its look for the
	 * process: by now the code is there, if the kernel keeps it. */
	if (r < 0 && errno == ESRCH)
		r = ioctl(pidfd, GET_INFO, &info);
	if (r < 0)
		return errno == ENOTTY || errno == EINVAL ? -EOPNOTSUPP : errno == ESRCH ? -EOPNOTSUPP : -errno;
	if (!(info.mask & INFO_EXIT))
		return -EAGAIN;
	int status = info.exit_code;
	*ret_code = (uint32_t)(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
