/* Capabilities: a bit set until the end, names on the wire. */
#include "workers/metadata/spec/parts.h"

#include "base/capability.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ALL ((UINT64_C(1) << CAPABILITIES) - 1)

/* What the ecosystem's containers have unless told otherwise: CHOWN,
 * DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
 * NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP. */
static const uint8_t usual[] = { 0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31 };

/* With or without "CAP_", in any case. "ALL" is ALL. */
static int cap_parse(struct builder *b, const char *name, uint64_t *ret_set) {
	const char *bare = strncasecmp(name, "CAP_", 4) == 0 ? name + 4 : name;
	if (strcasecmp(bare, "ALL") == 0) {
		*ret_set = ALL;
		return 0;
	}
	for (size_t i = 0; i < CAPABILITIES; i++)
		if (strcasecmp(bare, capability_names[i] + 4) == 0) {
			*ret_set = UINT64_C(1) << i;
			return 0;
		}
	return fault_set(b->fault, FAULT_INVALID_ARGUMENT, "\"%.64s\" is no capability", name);
}

static int caps_parse(struct builder *b, char *const *list, size_t n, bool *ret_all, uint64_t *ret_set) {
	uint64_t one = 0;
	*ret_all = false;
	*ret_set = 0;
	for (size_t i = 0; i < n; i++) {
		int r = cap_parse(b, list[i], &one);
		if (r < 0)
			return r;
		if (one == ALL)
			*ret_all = true;
		else
			*ret_set |= one;
	}
	return 0;
}

static struct strings caps_names(struct builder *b, uint64_t set) {
	struct strings s = { 0 };
	for (size_t i = 0; i < CAPABILITIES; i++)
		if (set & UINT64_C(1) << i)
			strings_add(b, &s, capability_names[i]);
	return s;
}

int spec_capabilities(struct builder *b) {
	uint64_t set = 0, add = 0, drop = 0, ambient = 0;
	bool add_all = false, drop_all = false, ambient_all = false;
	const Runtime__V1__Capability *c = b->security->capabilities;
	for (size_t i = 0; i < ARRAY_SIZE(usual); i++)
		set |= UINT64_C(1) << usual[i];
	int r = c ? caps_parse(b, c->add_capabilities, c->n_add_capabilities, &add_all, &add) : 0;
	if (r == 0 && c)
		r = caps_parse(b, c->drop_capabilities, c->n_drop_capabilities, &drop_all, &drop);
	if (r == 0 && c)
		r = caps_parse(b, c->add_ambient_capabilities, c->n_add_ambient_capabilities, &ambient_all, &ambient);
	if (r < 0)
		return r;
	/* "ALL" comes first, whichever list; then the single ones. */
	if (add_all)
		set = ALL;
	if (drop_all)
		set = 0;
	set = (set | add | ambient) & ~drop;
	if (ambient_all)
		set = ambient = ALL;
	if (b->privileged)
		set = ALL;
	NEW(b, caps, LinuxCapabilities, LINUX_CAPABILITIES);
	if (!caps)
		return 0;
	struct strings s = caps_names(b, set), amb = caps_names(b, ambient & set);
	caps->n_bounding = caps->n_effective = caps->n_permitted = s.n;
	caps->bounding = caps->effective = caps->permitted = s.v;
	/* Inheritable stays empty but for what ambient needs. */
	caps->n_inheritable = caps->n_ambient = amb.n;
	caps->inheritable = caps->ambient = amb.v;
	b->spec->process->capabilities = caps;
	return 0;
}
