#include "workers/keeper/caps.h"

#include "base/capability.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *caps_name(unsigned number) {
	return number < CAPABILITIES ? capability_names[number] : NULL;
}

uint64_t caps_own(void) {
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return (uint64_t)data[1].permitted << 32 | data[0].permitted;
}

static int set_parse(char *const *list, size_t n, uint64_t *ret_set, struct fault *fault) {
	*ret_set = 0;
	for (size_t i = 0; i < n; i++) {
		size_t k = 0;
		while (k < CAPABILITIES && strcmp(capability_names[k], list[i]) != 0)
			k++;
		if (k == CAPABILITIES)
			return fault_set(fault, FAULT_INVALID_ARGUMENT, "unknown capability \"%s\"", list[i]);
		*ret_set |= UINT64_C(1) << k;
	}
	return 0;
}

int caps_parse(const Grpc__LinuxCapabilities *spec, struct caps *ret_caps, uint64_t *ret_missing, struct fault *fault) {
	struct caps c = { 0 };
	*ret_missing = 0;
	if (spec) {
		int r = set_parse(spec->bounding, spec->n_bounding, &c.bounding, fault);
		if (r == 0)
			r = set_parse(spec->effective, spec->n_effective, &c.effective, fault);
		if (r == 0)
			r = set_parse(spec->permitted, spec->n_permitted, &c.permitted, fault);
		if (r == 0)
			r = set_parse(spec->ambient, spec->n_ambient, &c.ambient, fault);
		if (r < 0)
			return r;
	}
	uint64_t own = caps_own();
	*ret_missing = (c.bounding | c.effective | c.permitted | c.ambient) & ~own;
	c.bounding &= own;
	c.permitted &= own & c.bounding;
	c.effective &= c.permitted;
	c.ambient &= c.permitted;
	*ret_caps = c;
	return 0;
}

int caps_bound(const struct caps *c) {
	for (unsigned i = 0; i < 64; i++) {
		if (c->bounding >> i & 1)
			continue;
		/* EINVAL: the first number that the kernel doesn't have. */
		if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno;
	}
	return 0;
}

int caps_keep(void) {
	return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int caps_final(const struct caps *c, uint64_t keep) {
	uint64_t p = c->permitted | keep, e = c->effective | keep, i = c->ambient;
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = {
		{ (uint32_t)e, (uint32_t)p, (uint32_t)i },
		{ (uint32_t)(e >> 32), (uint32_t)(p >> 32), (uint32_t)(i >> 32) },
	};
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	if (syscall(SYS_capset, &header, data) < 0)
		return -errno;
	for (unsigned n = 0; n < 64; n++)
		if (c->ambient >> n & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, n, 0, 0) < 0)
			return -errno;
	return 0;
}
