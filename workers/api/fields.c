#include "workers/api/fields.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>

static const struct {
	char letter;
	int64_t ns;
} units[] = {
	{ .letter = 'H', .ns = 3600 * NS_PER_SEC },
	{ .letter = 'M', .ns = 60 * NS_PER_SEC },
	{ .letter = 'S', .ns = NS_PER_SEC },
	{ .letter = 'm', .ns = NS_PER_MS },
	{ .letter = 'u', .ns = 1000 },
	{ .letter = 'n', .ns = 1 },
};

int field_timeout(const char *text, int64_t *ret_ns) {
	int64_t value = 0;
	size_t n = 0;
	for (; text[n] >= '0' && text[n] <= '9'; n++) {
		if (n == 8)
			return -EINVAL;
		value = value * 10 + (text[n] - '0');
	}
	if (n == 0 || text[n] == '\0' || text[n + 1] != '\0')
		return -EINVAL;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (units[i].letter == text[n]) {
			*ret_ns = value < FIELD_TIMEOUT_MAX / units[i].ns ? value * units[i].ns : FIELD_TIMEOUT_MAX;
			return 0;
		}
	return -EINVAL;
}

/* n lower-case hexadecimal digits, at most 16. */
static bool hex(const char *text, size_t n, uint64_t *ret_value) {
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++) {
		char c = text[i];
		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*ret_value = v;
	return true;
}

/* version(2)-trace-id(32)-parent-id(16)-flags(2), at fixed places. Versions
 * above 00 may append fields; ff is never valid. */
bool field_traceparent(const char *text, uint64_t ret_trace[2]) {
	uint64_t version, high, low, parent, flags;
	size_t size = strlen(text);
	if (size < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-')
		return false;
	if (!hex(text, 2, &version) || !hex(text + 3, 16, &high) || !hex(text + 19, 16, &low) ||
	    !hex(text + 36, 16, &parent) || !hex(text + 53, 2, &flags))
		return false;
	if (version == 0xff || (version == 0 && size != 55) || (size > 55 && text[55] != '-'))
		return false;
	if ((high | low) == 0 || parent == 0)
		return false;
	ret_trace[0] = high;
	ret_trace[1] = low;
	return true;
}

bool field_is_grpc(const char *content_type) {
	static const char type[] = "application/grpc", proto[] = "+proto";
	if (!content_type || strncmp(content_type, type, sizeof(type) - 1) != 0)
		return false;
	const char *rest = content_type + sizeof(type) - 1;
	if (strncmp(rest, proto, sizeof(proto) - 1) == 0)
		rest += sizeof(proto) - 1;
	return *rest == '\0' || *rest == ';' || *rest == ' ';
}

void field_encode_message(const char *text, char *ret_encoded) {
	static const char digits[] = "0123456789ABCDEF";
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p >= 0x20 && *p < 0x7f && *p != '%') {
			*ret_encoded++ = (char)*p;
			continue;
		}
		*ret_encoded++ = '%';
		*ret_encoded++ = digits[*p >> 4];
		*ret_encoded++ = digits[*p & 15];
	}
	*ret_encoded = '\0';
}
