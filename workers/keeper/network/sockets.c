/* Reads the namespace's own statistics; two small files of /proc. */
#include "sockets.h"

#include "base/fd.h"

#include <fcntl.h>
#include <string.h>

/* The number behind key, -1 when there is none. */
static int count_of(const char *path, const char *key) {
	char text[1024];
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -1; /* ENOENT: no IPv6 in this kernel */
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -1;
	text[n] = '\0';
	const char *p = strstr(text, key);
	return p ? atoi(p + strlen(key)) : -1;
}

bool sockets_linger(void) {
	return count_of("/proc/thread-self/net/sockstat", "TCP: inuse ") != 0 ||
	       count_of("/proc/thread-self/net/sockstat6", "TCP6: inuse ") != 0;
}

void sockets_hurry(void) {
	CLEANUP_FD int fd = open("/proc/sys/net/ipv4/tcp_orphan_retries", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) < 0)
		return; /* then it takes its time */
}
