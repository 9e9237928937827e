/*
 * One walk over any message of proto/oci: its descriptor says which members an
 * object may have and of which types they are. JSON's names are the fields'
 * names but for the case of letters, and the few in `aliases`.
 */
#include "workers/api/containerd/oci_json.h"

#include "base/utf8.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX 16
#define WHERE_MAX 160
#define OURS "bulkhead.io/"

static void json_put(json_object **o) {
	json_object_put(*o);
}
#define CLEANUP_JSON CLEANUP(json_put)

struct walk {
	struct arena *arena;
	struct fault *fault;
	char where[WHERE_MAX]; /* "linux.resources.cpu" */
};

static int no_memory(struct walk *w) {
	return fault_set(w->fault, FAULT_RESOURCE_EXHAUSTED, "OCI specification: out of memory");
}

static int refuse(struct walk *w, const char *what) {
	return fault_set(w->fault, FAULT_INVALID_ARGUMENT, "OCI specification: %s: %s", *w->where ? w->where : "it",
			 what);
}

/* Goes down to a member; returns what walk_up needs. */
static size_t walk_down(struct walk *w, const char *name) {
	size_t n = strlen(w->where);
	snprintf(w->where + n, sizeof(w->where) - n, "%s%s", n ? "." : "", name);
	return n;
}

static void walk_up(struct walk *w, size_t n) {
	w->where[n] = '\0';
}

/* --- names ------------------------------------------------------------------ */

static const struct alias {
	const ProtobufCMessageDescriptor *message;
	const char *json, *field;
} aliases[] = {
	{ &grpc__spec__descriptor, "ociVersion", "Version" },
};

static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *d, const char *name) {
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (aliases[i].message == d && strcmp(aliases[i].json, name) == 0)
			name = aliases[i].field;
	for (unsigned i = 0; i < d->n_fields; i++)
		if (strcasecmp(d->fields[i].name, name) == 0)
			return &d->fields[i];
	return NULL;
}

/* --- values ----------------------------------------------------------------- */

static int message(struct walk *w, const ProtobufCMessageDescriptor *d, json_object *o, ProtobufCMessage **ret);

static int text(struct walk *w, json_object *v, char **ret_text) {
	if (!json_object_is_type(v, json_type_string))
		return refuse(w, "a string is expected");
	const char *s = json_object_get_string(v);
	if (strlen(s) != (size_t)json_object_get_string_len(v))
		return refuse(w, "a string with a NUL byte");
	*ret_text = arena_strdup(w->arena, s);
	return *ret_text ? 0 : no_memory(w);
}

static int number(struct walk *w, json_object *v, const ProtobufCFieldDescriptor *f, void *to) {
	if (!json_object_is_type(v, json_type_int))
		return refuse(w, "a whole number is expected");
	errno = 0;
	int64_t i = json_object_get_int64(v);
	uint64_t u = json_object_get_uint64(v);
	bool fits = errno == 0;
	switch (f->type) {
	case PROTOBUF_C_TYPE_UINT32:
		*(uint32_t *)to = (uint32_t)u;
		return fits && i >= 0 && u <= UINT32_MAX ? 0 : refuse(w, "the number doesn't fit into 32 bits");
	case PROTOBUF_C_TYPE_UINT64:
		*(uint64_t *)to = u;
		return i >= 0 ? 0 : refuse(w, "the number is negative");
	case PROTOBUF_C_TYPE_INT64:
		*(int64_t *)to = i;
		return u <= INT64_MAX || i < 0 ? 0 : refuse(w, "the number doesn't fit into 64 bits");
	default:
		return refuse(w, "no number is expected");
	}
}

/* One value of the field's type, to where it is kept. */
static int value(struct walk *w, const ProtobufCFieldDescriptor *f, json_object *v, void *to) {
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		return text(w, v, to);
	case PROTOBUF_C_TYPE_BOOL:
		if (!json_object_is_type(v, json_type_boolean))
			return refuse(w, "true or false is expected");
		*(protobuf_c_boolean *)to = json_object_get_boolean(v);
		return 0;
	case PROTOBUF_C_TYPE_MESSAGE:
		return message(w, f->descriptor, v, to);
	default:
		return number(w, v, f, to);
	}
}

static size_t value_size(const ProtobufCFieldDescriptor *f) {
	switch (f->type) {
	case PROTOBUF_C_TYPE_UINT32:
		return sizeof(uint32_t);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_INT64:
		return sizeof(uint64_t);
	default:
		return sizeof(void *);
	}
}

static int list(struct walk *w, const ProtobufCFieldDescriptor *f, json_object *v, size_t *ret_n, void **ret_list) {
	if (!json_object_is_type(v, json_type_array))
		return refuse(w, "a list is expected");
	size_t n = json_object_array_length(v), size = value_size(f);
	char *items = arena_zalloc(w->arena, (n + 1) * size);
	if (!items)
		return no_memory(w);
	for (size_t i = 0; i < n; i++) {
		int r = value(w, f, json_object_array_get_idx(v, i), items + i * size);
		if (r < 0)
			return r;
	}
	*ret_n = n;
	*ret_list = items;
	return 0;
}

/* --- maps: repeated messages of key and value, both strings ----------------- */

static bool is_map(const ProtobufCFieldDescriptor *f) {
	const ProtobufCMessageDescriptor *d = f->type == PROTOBUF_C_TYPE_MESSAGE ? f->descriptor : NULL;
	return d && f->label == PROTOBUF_C_LABEL_REPEATED && d->n_fields == 2 && strcmp(d->fields[0].name, "key") == 0;
}

static int entry(struct walk *w, const ProtobufCMessageDescriptor *d, const char *key, json_object *v,
		 ProtobufCMessage **ret_entry) {
	ProtobufCMessage *e = arena_alloc(w->arena, d->sizeof_message);
	if (!e)
		return no_memory(w);
	protobuf_c_message_init(d, e);
	char **slots[] = { (char **)((char *)e + d->fields[0].offset), (char **)((char *)e + d->fields[1].offset) };
	*ret_entry = e;
	*slots[0] = arena_strdup(w->arena, key);
	return *slots[0] ? text(w, v, slots[1]) : no_memory(w);
}

static int map(struct walk *w, const ProtobufCFieldDescriptor *f, json_object *v, size_t *ret_n, void **ret_list) {
	if (!json_object_is_type(v, json_type_object))
		return refuse(w, "an object is expected");
	/* Room for what annotations_ours adds. */
	ProtobufCMessage **items = arena_zalloc(w->arena, ((size_t)json_object_object_length(v) + 1) * sizeof(*items));
	size_t n = 0;
	if (!items)
		return no_memory(w);
	json_object_object_foreach(v, key, item) {
		size_t up = walk_down(w, key);
		int r = entry(w, f->descriptor, key, item, &items[n++]);
		if (r < 0)
			return r;
		walk_up(w, up);
	}
	*ret_n = n;
	*ret_list = items;
	return 0;
}

/* --- messages --------------------------------------------------------------- */

/* A message, or a number that is optional: a member of a oneof with its case. */
static int single(struct walk *w, const ProtobufCFieldDescriptor *f, json_object *v, char *m) {
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		*(uint32_t *)(m + f->quantifier_offset) = f->id;
	return value(w, f, v, m + f->offset);
}

static int member(struct walk *w, const ProtobufCFieldDescriptor *f, json_object *v, char *m) {
	if (!v)
		return 0; /* null: as if it weren't there */
	if (f->label != PROTOBUF_C_LABEL_REPEATED)
		return single(w, f, v, m);
	size_t *n = (size_t *)(m + f->quantifier_offset);
	void **items = (void **)(m + f->offset);
	return is_map(f) ? map(w, f, v, n, items) : list(w, f, v, n, items);
}

static int message(struct walk *w, const ProtobufCMessageDescriptor *d, json_object *o, ProtobufCMessage **ret) {
	if (!json_object_is_type(o, json_type_object))
		return refuse(w, "an object is expected");
	ProtobufCMessage *m = arena_alloc(w->arena, d->sizeof_message);
	if (!m)
		return no_memory(w);
	protobuf_c_message_init(d, m);
	json_object_object_foreach(o, key, v) {
		const ProtobufCFieldDescriptor *f = field_of(d, key);
		if (!f)
			continue;
		size_t up = walk_down(w, key);
		int r = member(w, f, v, (char *)m);
		if (r < 0)
			return r;
		walk_up(w, up);
	}
	*ret = m;
	return 0;
}

static int parse(struct walk *w, const ProtobufCMessageDescriptor *d, const void *json, size_t size,
		 json_object **ret_document, ProtobufCMessage **ret) {
	if (size > OCI_JSON_MAX)
		return refuse(w, "it is larger than 1 MiB");
	/* json-c lets overlong forms and surrogates pass; the metadata worker ends who sends it such. */
	if (!utf8_valid(json, size))
		return refuse(w, "the JSON isn't UTF-8");
	struct json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
	if (!t)
		return no_memory(w);
	json_tokener_set_flags(t, JSON_TOKENER_STRICT);
	json_object *o = json_tokener_parse_ex(t, json, (int)size);
	enum json_tokener_error e = json_tokener_get_error(t);
	json_tokener_free(t);
	*ret_document = o;
	if (e != json_tokener_success)
		return refuse(w, e == json_tokener_continue ? "the JSON has no end" : json_tokener_error_desc(e));
	return message(w, d, o, ret);
}

/* --- what the message has no field for -------------------------------------- */

static json_object *at(json_object *o, const char *const *path) {
	for (; o && *path; path++)
		if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, *path, &o))
			return NULL;
	return o;
}

static int annotation_add(struct walk *w, Grpc__Spec *spec, const char *key, const char *value) {
	Grpc__Spec__AnnotationsEntry **all = arena_alloc(w->arena, (spec->n_annotations + 1) * sizeof(*all)), *e;
	if (!all || !(e = arena_alloc(w->arena, sizeof(*e))))
		return no_memory(w);
	grpc__spec__annotations_entry__init(e);
	e->key = arena_printf(w->arena, OURS "unified/%s", key);
	e->value = arena_strdup(w->arena, value);
	if (!e->key || !e->value)
		return no_memory(w);
	if (spec->n_annotations)
		memcpy(all, spec->annotations, spec->n_annotations * sizeof(*all));
	all[spec->n_annotations++] = e;
	spec->annotations = all;
	return 0;
}

static int unified(struct walk *w, json_object *o, Grpc__Spec *spec) {
	static const char *const path[] = { "linux", "resources", "unified", NULL };
	json_object *u = at(o, path);
	if (!u || !json_object_is_type(u, json_type_object))
		return 0;
	json_object_object_foreach(u, key, v) {
		int r = json_object_is_type(v, json_type_string)
			    ? annotation_add(w, spec, key, json_object_get_string(v))
			    : refuse(w, "linux.resources.unified: a string is expected");
		if (r < 0)
			return r;
	}
	return 0;
}

static int hooks(struct walk *w, json_object *o) {
	static const char *const kinds[] = { "createRuntime", "createContainer", "startContainer" };
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const char *const path[] = { "hooks", kinds[i], NULL };
		json_object *h = at(o, path);
		if (h && json_object_is_type(h, json_type_array) && json_object_array_length(h) > 0)
			return fault_set(w->fault, FAULT_UNIMPLEMENTED, "OCI specification: hooks.%s isn't supported",
					 kinds[i]);
	}
	return 0;
}

/* Annotations of that prefix are ours to give a meaning. */
static int annotations_ours(struct walk *w, const Grpc__Spec *spec) {
	for (size_t i = 0; i < spec->n_annotations; i++)
		if (strncmp(spec->annotations[i]->key, OURS, strlen(OURS)) == 0)
			return refuse(w, "annotations that begin with \"" OURS "\" are reserved");
	return 0;
}

/* --- the documents ---------------------------------------------------------- */

int oci_json_spec(struct arena *a, const void *json, size_t size, Grpc__Spec **ret_spec, struct fault *fault) {
	struct walk w = { .arena = a, .fault = fault };
	CLEANUP_JSON json_object *o = NULL;
	ProtobufCMessage *m;
	int r = parse(&w, &grpc__spec__descriptor, json, size, &o, &m);
	if (r < 0)
		return r;
	Grpc__Spec *spec = (Grpc__Spec *)m;
	r = annotations_ours(&w, spec);
	if (r == 0)
		r = hooks(&w, o);
	if (r == 0)
		r = unified(&w, o, spec);
	if (r == 0)
		*ret_spec = spec;
	return r;
}

int oci_json_process(struct arena *a, const void *json, size_t size, Grpc__Process **ret_process, struct fault *fault) {
	struct walk w = { .arena = a, .fault = fault };
	CLEANUP_JSON json_object *o = NULL;
	return parse(&w, &grpc__process__descriptor, json, size, &o, (ProtobufCMessage **)ret_process);
}

int oci_json_resources(struct arena *a, const void *json, size_t size, Grpc__LinuxResources **ret_resources,
		       struct fault *fault) {
	struct walk w = { .arena = a, .fault = fault };
	CLEANUP_JSON json_object *o = NULL;
	return parse(&w, &grpc__linux_resources__descriptor, json, size, &o, (ProtobufCMessage **)ret_resources);
}
