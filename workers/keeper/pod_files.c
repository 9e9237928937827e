/* The files that all containers of a pod see at /etc, in the pod's run folder.
 * Values come from clients: what could forge a line is refused. */
#include "workers/keeper/keeper.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define COPY_MAX (256 * 1024)

static const char *const names[] = { "hosts", "resolv.conf", "hostname" };

/* No control characters, no blanks. */
static bool word(const char *text) {
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			return false;
	return text[0];
}

static int file_write(const struct keeper *k, const char *name, const struct buffer *text, struct fault *fault) {
	char path[PATH_MAX];
	if (text->failed)
		return fault_errno(fault, ENOMEM, "write \"%s\"", name);
	snprintf(path, sizeof(path), "%s/%s", k->run_dir, name);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	int r = fd < 0 ? -errno : fd_write_all(fd, text->data, text->size);
	if (r == 0 && fchmod(fd, 0644) < 0)
		r = -errno;
	return r < 0 ? fault_errno(fault, r, "write \"%s\"", path) : 0;
}

static void copy_host(struct buffer *b, const char *path) {
	CLEANUP_FREE char *text = NULL;
	size_t size;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	/* A host without the file gives its pods an empty one. */
	if (fd >= 0 && fd_read_all(fd, COPY_MAX, &text, &size) == 0)
		buffer_add(b, text, size);
}

static int hosts(const struct keeper *k, const Bulkhead__SandboxStartRequest *s, const char *const *ips, size_t n_ips,
		 struct fault *fault) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	if (s->network == BULKHEAD__NAMESPACE_MODE__NODE) {
		copy_host(&b, "/etc/hosts");
		return file_write(k, "hosts", &b, fault);
	}
	buffer_addf(&b, "127.0.0.1\tlocalhost\n"
			"::1\tlocalhost ip6-localhost ip6-loopback\n"
			"fe00::\tip6-localnet\n"
			"ff00::\tip6-mcastprefix\n"
			"ff02::1\tip6-allnodes\n"
			"ff02::2\tip6-allrouters\n");
	for (size_t i = 0; s->hostname[0] && i < n_ips; i++)
		buffer_addf(&b, "%s\t%s\n", ips[i], s->hostname);
	return file_write(k, "hosts", &b, fault);
}

static int resolv_list(struct buffer *b, const char *keyword, char *const *list, size_t n, bool line_each,
		       struct fault *fault) {
	for (size_t i = 0; i < n; i++) {
		if (!word(list[i]))
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "DNS configuration: \"%s\" is not a word",
					 list[i]);
		buffer_addf(b, "%s %s", line_each || i == 0 ? keyword : "", list[i]);
		if (line_each || i + 1 == n)
			buffer_addf(b, "\n");
	}
	return 0;
}

static int resolv_conf(const struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	int r = 0;
	if (!s->n_dns_servers && !s->n_dns_searches && !s->n_dns_options) {
		copy_host(&b, "/etc/resolv.conf");
		return file_write(k, "resolv.conf", &b, fault);
	}
	r = resolv_list(&b, "search", s->dns_searches, s->n_dns_searches, false, fault);
	if (r == 0)
		r = resolv_list(&b, "nameserver", s->dns_servers, s->n_dns_servers, true, fault);
	if (r == 0)
		r = resolv_list(&b, "options", s->dns_options, s->n_dns_options, false, fault);
	return r < 0 ? r : file_write(k, "resolv.conf", &b, fault);
}

static int hostname(const struct keeper *k, const Bulkhead__SandboxStartRequest *s, struct fault *fault) {
	CLEANUP_BUFFER struct buffer b = { 0 };
	char own[HOST_NAME_MAX + 1] = "";
	gethostname(own, sizeof(own) - 1);
	buffer_addf(&b, "%s\n", s->hostname[0] ? s->hostname : own);
	return file_write(k, "hostname", &b, fault);
}

int pod_files_write(const struct keeper *k, const Bulkhead__SandboxStartRequest *s, const char *const *ips,
		    size_t n_ips, struct fault *fault) {
	int r = hosts(k, s, ips, n_ips, fault);
	if (r == 0)
		r = resolv_conf(k, s, fault);
	return r < 0 ? r : hostname(k, s, fault);
}

void pod_files_remove(const struct keeper *k) {
	char path[PATH_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", k->run_dir, names[i]);
		unlink(path);
	}
}
