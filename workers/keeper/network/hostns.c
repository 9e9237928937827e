/*
 * Visits to the host's network namespace. The caller is a single thread; a
 * visit that can't come back ends the process, because everything that it did
 * from then on would happen to the wrong network.
 */
#include "hostns.h"
#include "net/rtnl.h"

#include "base/fd.h"
#include "base/log.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>

static int host_enter(int netns, int *ret_home) {
	CLEANUP_FD int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return -errno;
	if (setns(netns, CLONE_NEWNET) < 0)
		return -errno;
	*ret_home = take_fd(&home);
	return 0;
}

static void host_leave(int home) {
	if (setns(home, CLONE_NEWNET) < 0) {
		log_text(LOG_ERROR, "can't return from the host's network namespace: %s", strerrordesc_np(errno));
		abort();
	}
	fd_close(home);
}

static int sysctl_write(const char *path, const char *value) {
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd_write_all(fd, value, strlen(value));
}

int hostns_forward(struct network_host *host, int family, struct fault *fault) {
	const char *path = family == AF_INET ? "/proc/sys/net/ipv4/ip_forward"
					     : "/proc/sys/net/ipv6/conf/all/forwarding";
	bool on = false;
	int home, r = rtnl_forwarding(&host->route, family, &on);
	if (r == 0 && on)
		return 0;
	r = host_enter(host->netns, &home);
	if (r < 0)
		return fault_errno(fault, r, "enter the host's network namespace");
	r = sysctl_write(path, "1");
	host_leave(home);
	return r < 0 ? fault_errno(fault, r, "switch on forwarding by \"%s\"", path) : 0;
}

int hostns_ipv6(struct network_host *host, const char *link, struct fault *fault) {
	char path[64 + IFNAMSIZ];
	int home = -1, r = host ? host_enter(host->netns, &home) : 0;
	if (r < 0)
		return fault_errno(fault, r, "enter the host's network namespace");
	snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%.15s/disable_ipv6", link);
	r = sysctl_write(path, "0");
	if (host)
		host_leave(home);
	return r < 0 ? fault_errno(fault, r, "switch on IPv6 by \"%s\"", path) : 0;
}

int hostns_netfilter(struct network_host *host, struct fault *fault) {
	int home;
	if (host->netfilter.fd >= 0)
		return 0;
	int r = host_enter(host->netns, &home);
	if (r < 0)
		return fault_errno(fault, r, "enter the host's network namespace");
	r = netlink_open(NETLINK_NETFILTER, &host->netfilter);
	host_leave(home);
	return r < 0 ? fault_errno(fault, r, "open a netfilter socket (is nf_tables in the kernel?)") : 0;
}

int network_host_open(struct network_host *ret_host, struct fault *fault) {
	struct network_host host = NETWORK_HOST_NONE;
	host.netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (host.netns < 0)
		return fault_errno(fault, errno, "open the host's network namespace");
	int r = netlink_open(NETLINK_ROUTE, &host.route);
	if (r < 0) {
		network_host_close(&host);
		return fault_errno(fault, r, "open a routing socket in the host's network namespace");
	}
	*ret_host = host;
	return 0;
}

void network_host_close(struct network_host *host) {
	netlink_close(&host->netfilter);
	netlink_close(&host->route);
	fd_close_p(&host->netns);
}
