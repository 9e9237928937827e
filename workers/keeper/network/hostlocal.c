/*
 * Owns one network's folder of host-local's store while it has its lock.
 *
 * Addresses are given out round robin behind the last one, so that a freed
 * address rests as long as possible. An address is taken by creating its file
 * exclusively. A crash leaves no file, an empty one, or one with its owner's
 * id; a release by the owner's record removes each of them.
 */
#include "hostlocal.h"

#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

static int open_folder(const char *data_dir, const char *network, bool make, char *path, size_t room) {
	int n = snprintf(path, room, "%s/%s", data_dir, network);
	if (n < 0 || (size_t)n >= room)
		return -ENAMETOOLONG;
	int fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT || !make)
		return fd < 0 ? -errno : fd;
	/* Parents first; those that exist are skipped by mkdir itself. */
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		int r = mkdir(path, 0755);
		int err = errno;
		*slash = '/';
		if (r < 0 && err != EEXIST)
			return -err;
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = open(path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int store_open(const char *data_dir, const char *network, bool make, struct hostlocal *ret_store) {
	struct hostlocal s = HOSTLOCAL_NONE;
	CLEANUP_FD int dir = open_folder(data_dir, network, make, s.path, sizeof(s.path));
	if (dir < 0)
		return dir;
	CLEANUP_FD int lock = openat(dir, "lock", O_CREAT | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock < 0)
		return -errno;
	while (flock(lock, LOCK_EX) < 0)
		if (errno != EINTR)
			return -errno;
	s.dir = take_fd(&dir);
	s.lock = take_fd(&lock);
	*ret_store = s;
	return 0;
}

int hostlocal_open(const char *data_dir, const char *network, struct hostlocal *ret_store, struct fault *fault) {
	int r = store_open(data_dir, network, true, ret_store);
	return r < 0 ? fault_errno(fault, r, "open the address store \"%s/%s\"", data_dir, network) : 0;
}

void hostlocal_close(struct hostlocal *store) {
	fd_close_p(&store->lock); /* the lock goes with its last descriptor */
	fd_close_p(&store->dir);
}

/* The text of a small file, cut to the room. */
static int read_text(int dir, const char *name, char *ret_text, size_t room) {
	CLEANUP_FD int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, ret_text, room - 1);
	if (n < 0)
		return -errno;
	ret_text[n] = '\0';
	return 0;
}

struct range {
	struct address subnet, first, last, gateway;
};

static bool range_set(struct range *ret_range, const Bulkhead__AddressRange *m) {
	struct range r;
	if (!address_set(&r.subnet, &m->subnet, m->prefix, false) ||
	    !address_set(&r.first, &m->first, m->prefix, false) || !address_set(&r.last, &m->last, m->prefix, false) ||
	    !address_set(&r.gateway, &m->gateway, m->prefix, true))
		return false;
	if (!address_within(&r.first, &r.subnet) || !address_within(&r.last, &r.subnet) ||
	    address_compare(&r.first, &r.last) > 0 || (r.gateway.size && r.gateway.size != r.subnet.size))
		return false;
	*ret_range = r;
	return true;
}

/* Which range of the set the address lies in; the number of ranges: none. */
static size_t range_of(const Bulkhead__AddressSet *set, const struct address *a) {
	for (size_t i = 0; i < set->n_ranges; i++) {
		struct range r;
		if (range_set(&r, set->ranges[i]) && r.first.size == a->size && address_compare(&r.first, a) <= 0 &&
		    address_compare(a, &r.last) <= 0)
			return i;
	}
	return set->n_ranges;
}

/* The free address that follows the one given out last. */
static int pick_one(struct hostlocal *store, const Bulkhead__AddressSet *set, size_t index,
		    struct pod_address *ret_picked) {
	char name[48], text[ADDRESS_TEXT + 2];
	struct address last = { 0 };
	snprintf(name, sizeof(name), "last_reserved_ip.%zu", index);
	if (read_text(store->dir, name, text, sizeof(text)) == 0) {
		text[strcspn(text, " \r\n")] = '\0';
		if (!address_parse(&last, text))
			last = (struct address){ 0 }; /* damaged: begin at the front */
	}
	size_t begin = last.size ? range_of(set, &last) : set->n_ranges;
	bool behind = begin < set->n_ranges; /* start behind last, not at a range's front */
	if (!behind)
		begin = 0;
	/* Once around: the range of `last` is visited twice, its tail first. */
	for (size_t turn = 0; turn <= set->n_ranges; turn++) {
		struct range r;
		if (!range_set(&r, set->ranges[(begin + turn) % set->n_ranges]))
			return -EINVAL;
		struct address a = r.first;
		if (turn == 0 && behind) {
			if (address_equal(&last, &r.last))
				continue;
			memcpy(a.bytes, last.bytes, a.size);
			address_advance(&a);
		}
		for (;; address_advance(&a)) {
			if (!address_equal(&a, &r.gateway) &&
			    faccessat(store->dir, address_text(&a, text), F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
				if (errno != ENOENT)
					return -errno;
				*ret_picked = (struct pod_address){ .address = a, .gateway = r.gateway };
				return 0;
			}
			if (address_equal(&a, &r.last))
				break;
		}
	}
	return -ENOSPC;
}

int hostlocal_pick(struct hostlocal *store, const Bulkhead__HostLocal *config, struct pod_address *ret_picked,
		   size_t *ret_n, struct fault *fault) {
	if (config->n_sets == 0 || config->n_sets > HOSTLOCAL_SETS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "host-local with %zu address sets; 1 to %d are allowed",
				 config->n_sets, HOSTLOCAL_SETS_MAX);
	for (size_t i = 0; i < config->n_sets; i++) {
		const Bulkhead__AddressSet *set = config->sets[i];
		int r = set->n_ranges ? pick_one(store, set, i, &ret_picked[i]) : -EINVAL;
		if (r == -ENOSPC)
			return fault_set(
			    fault, FAULT_RESOURCE_EXHAUSTED,
			    "no free address: every one of set %zu has its file in \"%s\"; widen the range or "
			    "remove pods",
			    i, store->path);
		if (r < 0)
			return fault_errno(fault, r, "choose an address of set %zu in \"%s\"", i, store->path);
	}
	*ret_n = config->n_sets;
	return 0;
}

static int write_new(int dir, const char *name, const char *data, size_t size) {
	CLEANUP_FD int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int r = fd_write_all(fd, data, size);
	if (r < 0)
		unlinkat(dir, name, 0);
	return r;
}

/* Only a hint where to go on: what can't be written is no error. */
static void write_last(int dir, size_t index, const char *text) {
	char name[48];
	snprintf(name, sizeof(name), "last_reserved_ip.%zu", index);
	CLEANUP_FD int fd = openat(dir, name, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	/* Overwriting in place costs no block; only a shorter text needs a cut. */
	if (fd_write_all(fd, text, strlen(text)) < 0 || lseek(fd, 0, SEEK_END) != (off_t)strlen(text))
		if (ftruncate(fd, (off_t)strlen(text)) < 0)
			return;
}

int hostlocal_reserve(struct hostlocal *store, const char *id, const char *ifname, const struct pod_address *picked,
		      size_t n, struct fault *fault) {
	char owner[256], text[ADDRESS_TEXT];
	int length = snprintf(owner, sizeof(owner), "%s\r\n%s", id, ifname);
	if (length < 0 || (size_t)length >= sizeof(owner))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "sandbox id of %zu characters is too long", strlen(id));
	for (size_t i = 0; i < n; i++) {
		int r = write_new(store->dir, address_text(&picked[i].address, text), owner, (size_t)length);
		if (r < 0) {
			fault_errno(fault, r, "reserve address %s in \"%s\"", text, store->path);
			while (i-- > 0)
				unlinkat(store->dir, address_text(&picked[i].address, text), 0);
			return r;
		}
		write_last(store->dir, i, text);
	}
	return 0;
}

/* An empty file's owner died between making and writing it: the lock is ours,
 * so nobody is doing that now. */
static bool owned_by(const char *content, const char *id, const char *ifname) {
	size_t n = strlen(id);
	if (*content == '\0')
		return true;
	if (strncmp(content, id, n) != 0)
		return false;
	content += n;
	size_t space = strspn(content, "\r\n \t");
	if (space == 0)
		return *content == '\0'; /* as old plugins wrote it: the id alone */
	content += space;
	n = strlen(ifname);
	return *content == '\0' ||
	       (strncmp(content, ifname, n) == 0 && content[n + strspn(content + n, "\r\n \t")] == '\0');
}

int hostlocal_release(const char *data_dir, const char *network, const char *id, const char *ifname,
		      const struct address *addresses, size_t n, struct fault *fault) {
	if (n == 0)
		return 0;
	CLEANUP(hostlocal_close) struct hostlocal store = HOSTLOCAL_NONE;
	int r = store_open(data_dir, network, false, &store);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return fault_errno(fault, r, "open the address store \"%s/%s\"", data_dir, network);
	for (size_t i = 0; i < n; i++) {
		char text[ADDRESS_TEXT], content[256];
		r = read_text(store.dir, address_text(&addresses[i], text), content, sizeof(content));
		if (r == 0 && owned_by(content, id, ifname))
			r = unlinkat(store.dir, text, 0) < 0 ? -errno : 0;
		if (r < 0 && r != -ENOENT)
			return fault_errno(fault, r, "release address %s in \"%s\"", text, store.path);
	}
	return 0;
}
