/* Who is at the other end of a connection, as the kernel said when it was made. */
#pragma once

#include <sys/types.h>

struct credentials {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};
