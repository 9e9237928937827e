/*
 * A profile from JSON, as "localhost/" files have it: Docker's form, or the
 * runtime-spec's. The only file here that knows json-c.
 *
 *   defaultAction, defaultErrnoRet, flags
 *   architectures: [..]                or archMap: [{architecture, subArchitectures}]
 *   syscalls: [{names | name, action, errnoRet, args: [{index, value, valueTwo, op}],
 *               includes: {caps, arches, minKernel}, excludes: {...}}]
 *
 * Failure: anything that isn't understood refuses the container, with a
 * sentence that quotes it.
 */
#include "profile.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#define JSON_DEPTH_MAX 16

static void json_put(json_object **o) {
	json_object_put(*o);
}

/* NULL when absent or of another type. */
static json_object *member(json_object *o, const char *name, json_type type) {
	json_object *v;
	if (!json_object_object_get_ex(o, name, &v) || !json_object_is_type(v, type))
		return NULL;
	return v;
}

static const char *member_text(json_object *o, const char *name) {
	json_object *v = member(o, name, json_type_string);
	return v ? json_object_get_string(v) : "";
}

static size_t array_size(json_object *array) {
	return array ? json_object_array_length(array) : 0;
}

static const char *array_text(json_object *array, size_t i) {
	json_object *v = json_object_array_get_idx(array, i);
	return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

/* --- includes and excludes --- */

static bool has_capability(uint64_t capabilities, const char *name) {
	return capabilities & seccomp_capability(name);
}

static bool is_this_machine(const char *go_name) {
#if defined(__x86_64__)
	return strcmp(go_name, "amd64") == 0 || strcmp(go_name, "x32") == 0 || strcmp(go_name, "x86") == 0;
#else
	return strcmp(go_name, "arm64") == 0 || strcmp(go_name, "arm") == 0;
#endif
}

static bool kernel_at_least(const char *version) {
	struct utsname u;
	unsigned have[2], want[2];
	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &have[0], &have[1]) != 2 ||
	    sscanf(version, "%u.%u", &want[0], &want[1]) != 2)
		return false;
	return have[0] > want[0] || (have[0] == want[0] && have[1] >= want[1]);
}

/* includes: all of caps, one of arches, the kernel. */
static bool included(json_object *o, uint64_t capabilities) {
	json_object *caps = member(o, "caps", json_type_array), *arches = member(o, "arches", json_type_array);
	for (size_t i = 0; i < array_size(caps); i++)
		if (!has_capability(capabilities, array_text(caps, i)))
			return false;
	bool arch = array_size(arches) == 0;
	for (size_t i = 0; i < array_size(arches); i++)
		arch |= is_this_machine(array_text(arches, i));
	const char *kernel = member_text(o, "minKernel");
	return arch && (!*kernel || kernel_at_least(kernel));
}

/* excludes: one of caps, one of arches, or the kernel. */
static bool excluded(json_object *o, uint64_t capabilities) {
	json_object *caps = member(o, "caps", json_type_array), *arches = member(o, "arches", json_type_array);
	bool yes = false;
	for (size_t i = 0; i < array_size(caps); i++)
		yes |= has_capability(capabilities, array_text(caps, i));
	for (size_t i = 0; i < array_size(arches); i++)
		yes |= is_this_machine(array_text(arches, i));
	const char *kernel = member_text(o, "minKernel");
	return yes || (*kernel && kernel_at_least(kernel));
}

static bool rule_applies(json_object *o, uint64_t capabilities) {
	json_object *in = member(o, "includes", json_type_object), *out = member(o, "excludes", json_type_object);
	return (!in || included(in, capabilities)) && (!out || !excluded(out, capabilities));
}

/* --- rules --- */

static int json_action(json_object *o, const char *action_name, const char *errno_name, uint32_t *ret_action,
		       struct fault *fault) {
	json_object *e = member(o, errno_name, json_type_int);
	return profile_action(member_text(o, action_name), e, e ? (uint32_t)json_object_get_int64(e) : 0, ret_action,
			      fault);
}

static int json_condition(json_object *o, struct seccomp_condition *ret_condition, struct fault *fault) {
	json_object *index = member(o, "index", json_type_int), *value = member(o, "value", json_type_int);
	json_object *two = member(o, "valueTwo", json_type_int);
	if (!index || !value)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: a condition lacks its index or value");
	return profile_condition(member_text(o, "op"), json_object_get_uint64(index), json_object_get_uint64(value),
				 two ? json_object_get_uint64(two) : 0, ret_condition, fault);
}

static int json_rule(struct seccomp_profile *p, json_object *o, uint64_t capabilities, struct fault *fault) {
	if (!json_object_is_type(o, json_type_object))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: an entry of \"syscalls\" is no object");
	if (!rule_applies(o, capabilities))
		return 0;
	uint32_t action;
	int r = json_action(o, "action", "errnoRet", &action, fault);
	json_object *args = member(o, "args", json_type_array), *names = member(o, "names", json_type_array);
	struct seccomp_condition conditions[SECCOMP_ARGS_MAX];
	size_t n = array_size(args);
	if (r >= 0 && n > SECCOMP_ARGS_MAX)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: a rule has %zu conditions", n);
	for (size_t i = 0; r >= 0 && i < n; i++)
		r = json_condition(json_object_array_get_idx(args, i), &conditions[i], fault);
	for (size_t i = 0; r >= 0 && i < array_size(names); i++)
		profile_add(p, array_text(names, i), action, conditions, (unsigned)n);
	if (r >= 0 && *member_text(o, "name"))
		profile_add(p, member_text(o, "name"), action, conditions, (unsigned)n);
	return r;
}

static int json_arch(struct seccomp_profile *p, const char *word, struct fault *fault) {
	uint32_t archs;
	if (profile_arch(word, &archs) < 0)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "seccomp: architecture \"%.60s\" isn't known", word);
	p->archs |= archs;
	return 0;
}

static int json_archs(struct seccomp_profile *p, json_object *root, struct fault *fault) {
	json_object *plain = member(root, "architectures", json_type_array);
	json_object *mapped = member(root, "archMap", json_type_array);
	int r = 0;
	for (size_t i = 0; r >= 0 && i < array_size(plain); i++)
		r = json_arch(p, array_text(plain, i), fault);
	for (size_t i = 0; r >= 0 && i < array_size(mapped); i++) {
		json_object *o = json_object_array_get_idx(mapped, i);
		uint32_t main_arch = 0;
		if (json_object_is_type(o, json_type_object))
			profile_arch(member_text(o, "architecture"), &main_arch);
		if (!main_arch)
			continue;
		p->archs |= main_arch;
		json_object *sub = member(o, "subArchitectures", json_type_array);
		for (size_t k = 0; r >= 0 && k < array_size(sub); k++)
			r = json_arch(p, array_text(sub, k), fault);
	}
	p->archs |= profile_native_archs() & (1u << SECCOMP_ARCH_X86_64 | 1u << SECCOMP_ARCH_AARCH64);
	return r;
}

static int json_profile(struct seccomp_profile *p, json_object *root, uint64_t capabilities, struct fault *fault) {
	int r = json_action(root, "defaultAction", "defaultErrnoRet", &p->default_action, fault);
	if (r >= 0)
		r = json_archs(p, root, fault);
	json_object *flags = member(root, "flags", json_type_array);
	for (size_t i = 0; r >= 0 && i < array_size(flags); i++)
		r = profile_flag(array_text(flags, i), &p->flags, fault);
	json_object *rules = member(root, "syscalls", json_type_array);
	for (size_t i = 0; r >= 0 && i < array_size(rules); i++)
		r = json_rule(p, json_object_array_get_idx(rules, i), capabilities, fault);
	return r;
}

int profile_from_json(struct seccomp_profile *p, const char *json, size_t size, uint64_t capabilities,
		      struct fault *fault) {
	json_tokener *t = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (!t)
		return fault_errno(fault, ENOMEM, "read a seccomp profile");
	json_object *root __attribute__((cleanup(json_put))) = json_tokener_parse_ex(t, json, (int)size);
	enum json_tokener_error e = json_tokener_get_error(t);
	json_tokener_free(t);
	if (e != json_tokener_success || !json_object_is_type(root, json_type_object))
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the seccomp profile is no JSON object: %s",
				 json_tokener_error_desc(e));
	return json_profile(p, root, capabilities, fault);
}
