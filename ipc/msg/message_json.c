#include "msg/message_json.h"

#include "base/macros.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_SIZE 64

/* --- names ------------------------------------------------------------------ */

/* Where the specification spells differently, and what it always has. */
static const struct spelling {
	const char *field, *json;
	bool always;
} spellings[] = {
	{ "Version", "ociVersion", false },
	{ "Pagesize", "pageSize", false },
	{ "errnoret", "errnoRet", false },
	{ "UID", "uid", true },
	{ "GID", "gid", true },
	{ "Allow", "allow", true },
};

static const struct spelling *spelling_of(const char *field) {
	for (size_t i = 0; i < ARRAY_SIZE(spellings); i++)
		if (strcmp(spellings[i].field, field) == 0)
			return &spellings[i];
	return NULL;
}

/* Capitals in front become small, but for one that begins the next word: CPU, Cwd, OOMScoreAdj. */
static void lower_front(const char *field, char *ret_name) {
	size_t n = 0;
	while (isupper((unsigned char)field[n]))
		n++;
	if (n > 1 && islower((unsigned char)field[n]))
		n--;
	snprintf(ret_name, NAME_MAX_SIZE, "%s", field);
	for (size_t i = 0; i < n && ret_name[i]; i++)
		ret_name[i] = (char)tolower((unsigned char)ret_name[i]);
}

static const char *name_of(const ProtobufCFieldDescriptor *f, enum message_style style, char *space) {
	if (style == MESSAGE_PLAIN)
		return f->name;
	const struct spelling *s = spelling_of(f->name);
	if (s)
		return s->json;
	lower_front(f->name, space);
	return space;
}

/* --- values ----------------------------------------------------------------- */

static void bytes(struct json *j, const char *key, const ProtobufCBinaryData *b) {
	char *text = strndup(b->len ? (const char *)b->data : "", b->len);
	if (text)
		json_text(j, key, text);
	else
		j->text.failed = true;
	free(text);
}

static void value(struct json *j, const char *key, const ProtobufCFieldDescriptor *f, const void *at,
		  enum message_style style) {
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		json_text(j, key, *(char *const *)at);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		bytes(j, key, at);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		json_bool(j, key, *(const protobuf_c_boolean *)at);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		message_json(j, key, *(ProtobufCMessage *const *)at, style);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		json_unsigned(j, key, *(const uint32_t *)at);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		json_unsigned(j, key, *(const uint64_t *)at);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		json_number(j, key, *(const int64_t *)at);
		break;
	default: /* 32 bits with a sign, and enums; none of the messages has fractions */
		json_number(j, key, *(const int32_t *)at);
	}
}

static size_t value_size(const ProtobufCFieldDescriptor *f) {
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		return sizeof(int64_t);
	default:
		return sizeof(int32_t);
	}
}

static bool is_default(const ProtobufCFieldDescriptor *f, const void *at) {
	static const char zero[sizeof(int64_t)];
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		return !*(char *const *)at || !**(char *const *)at;
	case PROTOBUF_C_TYPE_BYTES:
		return ((const ProtobufCBinaryData *)at)->len == 0;
	case PROTOBUF_C_TYPE_MESSAGE:
		return !*(ProtobufCMessage *const *)at;
	default:
		return memcmp(at, zero, value_size(f)) == 0;
	}
}

/* --- lists and maps --------------------------------------------------------- */

/* Maps are lists of messages that the compiler calls so. */
static bool is_map(const ProtobufCFieldDescriptor *f) {
	const ProtobufCMessageDescriptor *d = f->type == PROTOBUF_C_TYPE_MESSAGE ? f->descriptor : NULL;
	size_t n = d ? strlen(d->short_name) : 0;
	return n > 5 && strcmp(d->short_name + n - 5, "Entry") == 0 && d->n_fields == 2 &&
	       d->fields[0].type == PROTOBUF_C_TYPE_STRING && strcmp(d->fields[0].name, "key") == 0;
}

static void entry(struct json *j, const ProtobufCMessage *e, enum message_style style) {
	const ProtobufCFieldDescriptor *f = e->descriptor->fields;
	const char *key = *(char *const *)((const char *)e + f[0].offset);
	value(j, key, &f[1], (const char *)e + f[1].offset, style);
}

static const char *entry_key(const void *at) {
	const ProtobufCMessage *e = *(ProtobufCMessage *const *)at;
	return *(char *const *)((const char *)e + e->descriptor->fields[0].offset);
}

static int by_key(const void *a, const void *b) {
	return strcmp(entry_key(a), entry_key(b));
}

/* Sorted: a map has no order, and comes in any. */
static void map(struct json *j, const char *key, const void *items, size_t n, enum message_style style) {
	ProtobufCMessage **sorted = malloc(n * sizeof(ProtobufCMessage *));
	if (!sorted) {
		j->text.failed = true;
		return;
	}
	memcpy(sorted, items, n * sizeof(ProtobufCMessage *));
	qsort(sorted, n, sizeof(ProtobufCMessage *), by_key);
	json_open(j, key, '{');
	for (size_t i = 0; i < n; i++)
		entry(j, sorted[i], style);
	json_close(j, '}');
	free(sorted);
}

static void list(struct json *j, const char *key, const ProtobufCFieldDescriptor *f, const char *m,
		 enum message_style style) {
	size_t n = *(const size_t *)(m + f->quantifier_offset);
	const char *items = *(char *const *)(m + f->offset);
	if (n == 0)
		return;
	if (is_map(f)) {
		map(j, key, items, n, style);
		return;
	}
	json_open(j, key, '[');
	for (size_t i = 0; i < n; i++)
		value(j, NULL, f, items + i * value_size(f), style);
	json_close(j, ']');
}

/* --- messages --------------------------------------------------------------- */

static bool is_there(const ProtobufCFieldDescriptor *f, const char *m, enum message_style style) {
	const struct spelling *s = style == MESSAGE_OCI ? spelling_of(f->name) : NULL;
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)(m + f->quantifier_offset) == f->id;
	return (s && s->always) || !is_default(f, m + f->offset);
}

void message_json(struct json *j, const char *key, const ProtobufCMessage *message, enum message_style style) {
	const ProtobufCMessageDescriptor *d = message->descriptor;
	const char *m = (const char *)message;
	char space[NAME_MAX_SIZE];
	json_open(j, key, '{');
	for (unsigned i = 0; i < d->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &d->fields[i];
		const char *name = name_of(f, style, space);
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			list(j, name, f, m, style);
		else if (is_there(f, m, style))
			value(j, name, f, m + f->offset, style);
	}
	json_close(j, '}');
}

bool message_same(const ProtobufCMessage *a, const ProtobufCMessage *b) {
	struct json x = { 0 }, y = { 0 };
	message_json(&x, NULL, a, MESSAGE_PLAIN);
	message_json(&y, NULL, b, MESSAGE_PLAIN);
	bool same = !x.text.failed && !y.text.failed && x.text.size == y.text.size &&
		    memcmp(x.text.data, y.text.data, x.text.size) == 0;
	buffer_deinit(&x.text);
	buffer_deinit(&y.text);
	return same;
}
