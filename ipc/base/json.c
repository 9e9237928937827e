#include "base/json.h"

#include "base/utf8.h"

/* Bytes that aren't UTF-8 become the replacement character: JSON has no way to say them. */
static void quoted(struct json *j, const char *text) {
	unsigned n;
	buffer_add(&j->text, "\"", 1);
	for (const char *p = text; *p; p += n ? n : 1) {
		n = utf8_length(p, 4);
		if (*p == '"' || *p == '\\')
			buffer_addf(&j->text, "\\%c", *p);
		else if ((unsigned char)*p < 0x20 || *p == 0x7f)
			buffer_addf(&j->text, "\\u%04x", (unsigned char)*p);
		else if (n == 0)
			buffer_addf(&j->text, "\\ufffd");
		else
			buffer_add(&j->text, p, n);
	}
	buffer_add(&j->text, "\"", 1);
}

static void lead(struct json *j, const char *key) {
	if (!j->first && j->text.size)
		buffer_add(&j->text, ",", 1);
	j->first = false;
	if (key) {
		quoted(j, key);
		buffer_add(&j->text, ":", 1);
	}
}

void json_open(struct json *j, const char *key, char bracket) {
	lead(j, key);
	buffer_add(&j->text, &bracket, 1);
	j->first = true;
}

void json_close(struct json *j, char bracket) {
	buffer_add(&j->text, &bracket, 1);
	j->first = false;
}

void json_text(struct json *j, const char *key, const char *value) {
	lead(j, key);
	quoted(j, value);
}

void json_number(struct json *j, const char *key, int64_t value) {
	lead(j, key);
	buffer_addf(&j->text, "%lld", (long long)value);
}

void json_unsigned(struct json *j, const char *key, uint64_t value) {
	lead(j, key);
	buffer_addf(&j->text, "%llu", (unsigned long long)value);
}

void json_bool(struct json *j, const char *key, bool value) {
	lead(j, key);
	buffer_addf(&j->text, value ? "true" : "false");
}
