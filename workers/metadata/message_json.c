#include "workers/metadata/message_json.h"

#include <ctype.h>
#include <string.h>

#define NAME_MAX_SIZE 64

/* All capitals at the beginning but the one that begins the next word; and one
 * name that is another. */
static const char *name_oci(const char *name, char space[NAME_MAX_SIZE]) {
	size_t n = 0;
	if (strcmp(name, "Version") == 0)
		return "ociVersion";
	while (isupper((unsigned char)name[n]))
		n++;
	if (n > 1 && name[n] != '\0')
		n--;
	size_t i = 0;
	for (; name[i] && i + 1 < NAME_MAX_SIZE; i++)
		space[i] = i < n ? (char)tolower((unsigned char)name[i]) : name[i];
	space[i] = '\0';
	return space;
}

static void scalar(struct json *j, const char *key, ProtobufCType type, const void *p, enum message_names names) {
	switch (type) {
	case PROTOBUF_C_TYPE_BOOL:
		json_bool(j, key, *(const protobuf_c_boolean *)p);
		return;
	case PROTOBUF_C_TYPE_UINT32:
		json_unsigned(j, key, *(const uint32_t *)p);
		return;
	case PROTOBUF_C_TYPE_UINT64:
		json_unsigned(j, key, *(const uint64_t *)p);
		return;
	case PROTOBUF_C_TYPE_INT64:
		json_number(j, key, *(const int64_t *)p);
		return;
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_ENUM:
		json_number(j, key, *(const int32_t *)p);
		return;
	case PROTOBUF_C_TYPE_STRING:
		json_text(j, key, *(const char *const *)p);
		return;
	case PROTOBUF_C_TYPE_MESSAGE:
		message_json(j, key, *(const ProtobufCMessage *const *)p, names);
		return;
	default:
		return;
	}
}

static size_t size_of(ProtobufCType type) {
	switch (type) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_UINT64:
		return sizeof(uint64_t);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return sizeof(uint32_t);
	}
}

static bool known(ProtobufCType type) {
	static const ProtobufCType types[] = { PROTOBUF_C_TYPE_BOOL,   PROTOBUF_C_TYPE_UINT32, PROTOBUF_C_TYPE_UINT64,
					       PROTOBUF_C_TYPE_INT32,  PROTOBUF_C_TYPE_INT64,  PROTOBUF_C_TYPE_ENUM,
					       PROTOBUF_C_TYPE_STRING, PROTOBUF_C_TYPE_MESSAGE };
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i] == type)
			return true;
	return false;
}

static bool is_default(ProtobufCType type, const void *p) {
	static const uint8_t zero[sizeof(uint64_t)];
	const void *const *pointer = p;
	if (type == PROTOBUF_C_TYPE_STRING)
		return !*pointer || !*(const char *)*pointer;
	return type == PROTOBUF_C_TYPE_MESSAGE ? !*pointer : memcmp(p, zero, size_of(type)) == 0;
}

/* A map's entries are messages of a type that the compiler made up. */
static bool is_map(const ProtobufCFieldDescriptor *f) {
	const ProtobufCMessageDescriptor *d = f->descriptor;
	size_t n = f->type == PROTOBUF_C_TYPE_MESSAGE ? strlen(d->short_name) : 0;
	return n > 5 && strcmp(d->short_name + n - 5, "Entry") == 0 && d->n_fields == 2 &&
	       strcmp(d->fields[0].name, "key") == 0 && d->fields[0].type == PROTOBUF_C_TYPE_STRING;
}

static void repeated(struct json *j, const char *key, const ProtobufCFieldDescriptor *f, const char *items, size_t n,
		     enum message_names names) {
	bool map = is_map(f);
	json_open(j, key, map ? '{' : '[');
	for (size_t i = 0; i < n; i++) {
		const char *item = items + i * size_of(f->type);
		if (!map) {
			scalar(j, NULL, f->type, item, names);
			continue;
		}
		const ProtobufCMessageDescriptor *d = f->descriptor;
		const char *entry = *(const char *const *)item;
		scalar(j, *(const char *const *)(entry + d->fields[0].offset), d->fields[1].type,
		       entry + d->fields[1].offset, names);
	}
	json_close(j, map ? '}' : ']');
}

void message_json(struct json *j, const char *key, const ProtobufCMessage *m, enum message_names names) {
	json_open(j, key, '{');
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const char *p = (const char *)m + f->offset;
		char space[NAME_MAX_SIZE];
		const char *name = names == MESSAGE_NAMES_OCI ? name_oci(f->name, space) : f->name;
		/* Of a oneof the same place holds another field. */
		if (!known(f->type) || f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
			continue;
		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);
			if (n)
				repeated(j, name, f, *(const char *const *)p, n, names);
		} else if (!is_default(f->type, p))
			scalar(j, name, f->type, p, names);
	}
	json_close(j, '}');
}
