/*
 * containerEdits of a file and of its device, in that order:
 *
 *   env             takes the place of a variable of that name
 *   deviceNodes     become the keeper's device annotations, so that they are
 *                   looked up on the host and work in user namespaces too
 *   mounts          appended
 *   additionalGids  appended
 *   hooks, ...      refused: the container would miss what they do
 *
 * Files that aren't understood are passed over: they may be somebody else's.
 */
#include "cdi.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "bulkhead.io/cdi/"
#define PREFIX_DEVICE "bulkhead.io/device/"
#define JSON_DEPTH_MAX 16

char *cdi_folders[CDI_FOLDERS] = { (char *)"/etc/cdi", (char *)"/var/run/cdi" };

struct list {
	void **v;
	size_t n, room;
};

struct edits {
	struct arena *arena;
	struct fault *fault;
	const char *device; /* under edit, for errors */
	struct list env, mounts, annotations, gids;
};

static void json_put(json_object **o) {
	json_object_put(*o);
}

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

/* --- parts of the specification --- */

static int no_memory(const struct edits *e) {
	return fault_errno(e->fault, ENOMEM, "CDI device \"%.128s\"", e->device);
}

static int list_add(struct edits *e, struct list *l, void *item) {
	if (!item)
		return no_memory(e);
	if (l->n == l->room) {
		size_t room = l->room ? l->room * 2 : 16;
		void **bigger = arena_alloc(e->arena, room * sizeof(*bigger));
		if (!bigger)
			return no_memory(e);
		if (l->n)
			memcpy(bigger, l->v, l->n * sizeof(*bigger));
		l->v = bigger;
		l->room = room;
	}
	l->v[l->n++] = item;
	return 0;
}

static int list_take(struct edits *e, struct list *l, void *items, size_t n) {
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = list_add(e, l, ((void **)items)[i]);
	return r;
}

static bool plain(const char *text) {
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	return true;
}

static int check_path(const struct edits *e, const char *path) {
	if (path[0] == '/' && plain(path) && strlen(path) < 4096)
		return 0;
	return fault_set(e->fault, FAULT_INVALID_ARGUMENT, "CDI device \"%.128s\": \"%.256s\" is not an absolute path",
			 e->device, path);
}

/* --- edits --- */

static int env_edit(struct edits *e, const char *entry) {
	const char *is = strchr(entry, '=');
	if (!is || is == entry)
		return fault_set(e->fault, FAULT_INVALID_ARGUMENT, "CDI device \"%.128s\": \"%.128s\" is no variable",
				 e->device, entry);
	char *copy = arena_strdup(e->arena, entry);
	for (size_t i = 0; copy && i < e->env.n; i++)
		if (strncmp(e->env.v[i], entry, (size_t)(is - entry) + 1) == 0) {
			e->env.v[i] = copy;
			return 0;
		}
	return list_add(e, &e->env, copy);
}

static int node_edit(struct edits *e, json_object *o) {
	const char *inside = member_text(o, "path"), *host = member_text(o, "hostPath");
	const char *access = member_text(o, "permissions");
	if (!*host)
		host = inside;
	int r = check_path(e, inside);
	if (r == 0)
		r = check_path(e, host);
	if (r == 0 && strspn(access, "rwm") != strlen(access))
		r = fault_set(e->fault, FAULT_INVALID_ARGUMENT,
			      "CDI device \"%.128s\": permissions \"%.16s\" may be of r, w and m", e->device, access);
	if (r < 0)
		return r;
	Grpc__Spec__AnnotationsEntry *a = arena_alloc(e->arena, sizeof(*a));
	if (!a)
		return no_memory(e);
	*a = (Grpc__Spec__AnnotationsEntry)GRPC__SPEC__ANNOTATIONS_ENTRY__INIT;
	a->key = arena_printf(e->arena, PREFIX_DEVICE "cdi-%zu", e->annotations.n);
	a->value = arena_printf(e->arena, "%s\n%s\n%s", host, inside, *access ? access : "rwm");
	return a->key && a->value ? list_add(e, &e->annotations, a) : no_memory(e);
}

static int mount_edit(struct edits *e, json_object *o) {
	const char *host = member_text(o, "hostPath"), *inside = member_text(o, "containerPath");
	json_object *options = member(o, "options", json_type_array);
	size_t n = array_size(options);
	int r = check_path(e, inside);
	if (r == 0)
		r = check_path(e, host);
	if (r < 0)
		return r;
	Grpc__Mount *m = arena_alloc(e->arena, sizeof(*m));
	char **words = arena_alloc(e->arena, (n + 1) * sizeof(*words));
	if (!m || !words)
		return no_memory(e);
	*m = (Grpc__Mount)GRPC__MOUNT__INIT;
	m->destination = arena_strdup(e->arena, inside);
	m->source = arena_strdup(e->arena, host);
	m->type = (char *)"bind";
	m->options = words;
	words[m->n_options++] = (char *)"rbind";
	for (size_t i = 0; i < n; i++) {
		json_object *v = json_object_array_get_idx(options, i);
		const char *word = json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
		/* It is one; how deep is said above. */
		if (!*word || strcmp(word, "bind") == 0 || strcmp(word, "rbind") == 0)
			continue;
		words[m->n_options] = arena_strdup(e->arena, word);
		if (!words[m->n_options++])
			return no_memory(e);
	}
	return m->destination && m->source ? list_add(e, &e->mounts, m) : no_memory(e);
}

static int gid_edit(struct edits *e, json_object *v) {
	int64_t id = json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : -1;
	uint32_t *gid = arena_alloc(e->arena, sizeof(*gid));
	if (id < 0 || id > INT32_MAX)
		return fault_set(e->fault, FAULT_INVALID_ARGUMENT,
				 "CDI device \"%.128s\": a group id that is out of range", e->device);
	if (!gid)
		return no_memory(e);
	*gid = (uint32_t)id;
	return list_add(e, &e->gids, gid);
}

static int edit_all(struct edits *e, json_object *edits) {
	json_object *env = member(edits, "env", json_type_array),
		    *nodes = member(edits, "deviceNodes", json_type_array);
	json_object *mounts = member(edits, "mounts", json_type_array);
	json_object *gids = member(edits, "additionalGids", json_type_array);
	static const char *const refused[] = { "hooks", "intelRdt", "netDevices" };
	json_object *v;
	int r = 0;
	for (size_t i = 0; edits && i < ARRAY_SIZE(refused); i++)
		if (json_object_object_get_ex(edits, refused[i], &v) && v &&
		    (!json_object_is_type(v, json_type_array) || array_size(v)))
			return fault_set(e->fault, FAULT_UNIMPLEMENTED,
					 "CDI device \"%.128s\" needs %s, which aren't supported", e->device,
					 refused[i]);
	for (size_t i = 0; r == 0 && i < array_size(env); i++) {
		v = json_object_array_get_idx(env, i);
		r = env_edit(e, json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "");
	}
	for (size_t i = 0; r == 0 && i < array_size(nodes); i++)
		r = node_edit(e, json_object_array_get_idx(nodes, i));
	for (size_t i = 0; r == 0 && i < array_size(mounts); i++)
		r = mount_edit(e, json_object_array_get_idx(mounts, i));
	for (size_t i = 0; r == 0 && i < array_size(gids); i++)
		r = gid_edit(e, json_object_array_get_idx(gids, i));
	return r;
}

/* --- devices --- */

static json_object *file_parse(const Bulkhead__HostFile *f) {
	struct json_tokener *t = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (!t)
		return NULL;
	json_object *o = json_tokener_parse_ex(t, (const char *)f->data.data, (int)f->data.len);
	bool whole = json_tokener_get_error(t) == json_tokener_success && json_object_is_type(o, json_type_object);
	json_tokener_free(t);
	if (!whole)
		json_object_put(o);
	return whole ? o : NULL;
}

/* The device "kind=name" in a file; NULL: not there. */
static json_object *device_find(json_object *file, const char *device) {
	const char *is = strchr(device, '='), *kind = member_text(file, "kind");
	json_object *devices = member(file, "devices", json_type_array);
	if (!is || strlen(kind) != (size_t)(is - device) || strncmp(kind, device, strlen(kind)) != 0)
		return NULL;
	for (size_t i = 0; i < array_size(devices); i++) {
		json_object *d = json_object_array_get_idx(devices, i);
		if (json_object_is_type(d, json_type_object) && strcmp(member_text(d, "name"), is + 1) == 0)
			return d;
	}
	return NULL;
}

static int device_apply(struct edits *e, Bulkhead__HostFile *const *files, size_t n) {
	for (size_t i = n; i-- > 0;) {
		json_object *file CLEANUP(json_put) = file_parse(files[i]);
		json_object *d = file ? device_find(file, e->device) : NULL;
		if (!d)
			continue;
		int r = edit_all(e, member(file, "containerEdits", json_type_object));
		if (r == 0)
			r = edit_all(e, member(d, "containerEdits", json_type_object));
		return r < 0 ? fault_prefix(e->fault, r, "\"%.256s\"", files[i]->path) : 0;
	}
	return fault_set(e->fault, FAULT_INVALID_ARGUMENT, "CDI device \"%.128s\" is in no file of \"%s\" and \"%s\"",
			 e->device, cdi_folders[0], cdi_folders[1]);
}

static bool is_device(const Grpc__Spec *spec, size_t i) {
	return strncmp(spec->annotations[i]->key, PREFIX, strlen(PREFIX)) == 0;
}

bool cdi_wanted(const Grpc__Spec *spec) {
	for (size_t i = 0; spec && i < spec->n_annotations; i++)
		if (is_device(spec, i))
			return true;
	return false;
}

static int spec_make(struct edits *e, const Grpc__Spec *spec, const Grpc__Spec **ret_spec) {
	Grpc__Spec *s = arena_alloc(e->arena, sizeof(*s));
	Grpc__Process *p = arena_alloc(e->arena, sizeof(*p));
	Grpc__User *u = arena_alloc(e->arena, sizeof(*u));
	if (!s || !p || !u)
		return no_memory(e);
	*s = *spec;
	*p = *spec->process;
	*u = p->user ? *p->user : (Grpc__User)GRPC__USER__INIT;
	uint32_t *gids = arena_alloc(e->arena, (u->n_additionalgids + e->gids.n + 1) * sizeof(*gids));
	if (!gids)
		return no_memory(e);
	if (u->n_additionalgids)
		memcpy(gids, u->additionalgids, u->n_additionalgids * sizeof(*gids));
	for (size_t i = 0; i < e->gids.n; i++)
		gids[u->n_additionalgids++] = *(uint32_t *)e->gids.v[i];
	u->additionalgids = gids;
	p->user = u;
	p->env = (char **)e->env.v;
	p->n_env = e->env.n;
	s->process = p;
	s->mounts = (Grpc__Mount **)e->mounts.v;
	s->n_mounts = e->mounts.n;
	s->annotations = (Grpc__Spec__AnnotationsEntry **)e->annotations.v;
	s->n_annotations = e->annotations.n;
	*ret_spec = s;
	return 0;
}

int cdi_apply(struct arena *a, const Grpc__Spec *spec, Bulkhead__HostFile *const *files, size_t n_files,
	      const Grpc__Spec **ret_spec, struct fault *fault) {
	struct edits e = { .arena = a, .fault = fault, .device = "" };
	if (!spec->process)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "the container has no process to run");
	int r = list_take(&e, &e.env, spec->process->env, spec->process->n_env);
	if (r == 0)
		r = list_take(&e, &e.mounts, spec->mounts, spec->n_mounts);
	if (r == 0)
		r = list_take(&e, &e.annotations, spec->annotations, spec->n_annotations);
	for (size_t i = 0; r == 0 && i < spec->n_annotations; i++)
		if (is_device(spec, i)) {
			e.device = spec->annotations[i]->value;
			r = device_apply(&e, files, n_files);
		}
	return r < 0 ? r : spec_make(&e, spec, ret_spec);
}
