#include "tools/client/json.h"

#include "base/macros.h"

#include <stdbool.h>
#include <inttypes.h>
#include <string.h>

static void print_text(FILE *to, const char *text, size_t size) {
	fputc('"', to);
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '"' || c == '\\')
			fprintf(to, "\\%c", c);
		else if (c == '\n')
			fputs("\\n", to);
		else if (c < 0x20)
			fprintf(to, "\\u%04x", c);
		else
			fputc(c, to);
	}
	fputc('"', to);
}

static void print_value(FILE *to, const ProtobufCFieldDescriptor *f, const void *p, int indent) {
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
		fprintf(to, "%" PRId32, *(const int32_t *)p);
		break;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		fprintf(to, "%" PRIu32, *(const uint32_t *)p);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		fprintf(to, "%" PRId64, *(const int64_t *)p);
		break;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		fprintf(to, "%" PRIu64, *(const uint64_t *)p);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		fputs(*(const protobuf_c_boolean *)p ? "true" : "false", to);
		break;
	case PROTOBUF_C_TYPE_FLOAT:
		fprintf(to, "%g", (double)*(const float *)p);
		break;
	case PROTOBUF_C_TYPE_DOUBLE:
		fprintf(to, "%g", *(const double *)p);
		break;
	case PROTOBUF_C_TYPE_ENUM: {
		const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)p);
		if (v)
			print_text(to, v->name, strlen(v->name));
		else
			fprintf(to, "%d", *(const int *)p);
		break;
	}
	case PROTOBUF_C_TYPE_STRING: {
		const char *text = *(char *const *)p ? *(char *const *)p : "";
		print_text(to, text, strlen(text));
		break;
	}
	case PROTOBUF_C_TYPE_BYTES: {
		const ProtobufCBinaryData *b = p;
		print_text(to, (const char *)b->data, b->len);
		break;
	}
	case PROTOBUF_C_TYPE_MESSAGE:
		json_print(to, *(const ProtobufCMessage *const *)p, indent);
		break;
	}
}

static size_t value_size(const ProtobufCFieldDescriptor *f) {
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE:
		return 8;
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	default:
		return 4;
	}
}

static bool is_default(const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m, const uint8_t *p) {
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)((const uint8_t *)m + f->quantifier_offset) != f->id;
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return *(const size_t *)((const uint8_t *)m + f->quantifier_offset) == 0;
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return !*(char *const *)p || !**(char *const *)p;
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return !*(void *const *)p;
	if (f->type == PROTOBUF_C_TYPE_BYTES)
		return ((const ProtobufCBinaryData *)p)->len == 0;
	static const uint8_t zero[8];
	return f->type != PROTOBUF_C_TYPE_ENUM && memcmp(p, zero, value_size(f)) == 0;
}

static void print_repeated(FILE *to, const ProtobufCFieldDescriptor *f, const ProtobufCMessage *m, const uint8_t *p,
			   int indent) {
	size_t n = *(const size_t *)((const uint8_t *)m + f->quantifier_offset);
	const uint8_t *list = *(uint8_t *const *)p;
	fputc('[', to);
	for (size_t i = 0; i < n; i++) {
		if (i)
			fputs(", ", to);
		print_value(to, f, list + i * value_size(f), indent);
	}
	fputc(']', to);
}

void json_print(FILE *to, const ProtobufCMessage *m, int indent) {
	bool any = false;
	fputc('{', to);
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const uint8_t *p = (const uint8_t *)m + f->offset;
		if (is_default(f, m, p))
			continue;
		fprintf(to, "%s\n%*s\"%s\": ", any ? "," : "", (indent + 1) * 2, "", f->name);
		any = true;
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			print_repeated(to, f, m, p, indent + 1);
		else
			print_value(to, f, p, indent + 1);
	}
	if (any)
		fprintf(to, "\n%*s", indent * 2, "");
	fputc('}', to);
}
