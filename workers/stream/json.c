#include "workers/stream/json.h"

#include <errno.h>
#include <string.h>

/* The number after "name":, without a full parser: the text is one flat object
 * of two numbers, and a wrong size harms nobody. */
static bool number_of(const char *text, const char *name, unsigned short *ret) {
	const char *p = strstr(text, name);
	if (!p)
		return false;
	p += strlen(name);
	p += strspn(p, " \t\r\n");
	if (*p++ != ':')
		return false;
	p += strspn(p, " \t\r\n");
	unsigned n = 0;
	const char *digits = p;
	while (*p >= '0' && *p <= '9' && n <= 65535)
		n = n * 10 + (unsigned)(*p++ - '0');
	if (p == digits || n > 65535)
		return false;
	*ret = (unsigned short)n;
	return true;
}

bool json_read_size(const char *text, size_t size, unsigned short *ret_width, unsigned short *ret_height) {
	char copy[128];
	unsigned short width, height;
	if (size >= sizeof(copy) || size == 0 || text[0] != '{')
		return false;
	memcpy(copy, text, size);
	copy[size] = '\0';
	if (!number_of(copy, "\"Width\"", &width) || !number_of(copy, "\"Height\"", &height))
		return false;
	*ret_width = width;
	*ret_height = height;
	return true;
}

static void add_text(struct buffer *b, const char *text) {
	buffer_add(b, "\"", 1);
	for (const char *p = text; *p; p++) {
		if (*p == '"' || *p == '\\')
			buffer_addf(b, "\\%c", *p);
		else if ((unsigned char)*p < 32)
			buffer_addf(b, "\\u%04x", (unsigned)*p);
		else
			buffer_add(b, p, 1);
	}
	buffer_add(b, "\"", 1);
}

void json_add_exit(struct buffer *b, int32_t code) {
	if (code == 0)
		buffer_addf(b, "{\"metadata\":{},\"status\":\"Success\"}");
	else
		buffer_addf(
		    b,
		    "{\"metadata\":{},\"status\":\"Failure\",\"message\":\"command terminated with non-zero exit "
		    "code: exit status %d\",\"reason\":\"NonZeroExitCode\",\"details\":{\"causes\":[{\"reason\":"
		    "\"ExitCode\",\"message\":\"%d\"}]}}",
		    code, code);
}

void json_add_failure(struct buffer *b, const char *text) {
	buffer_addf(b, "{\"metadata\":{},\"status\":\"Failure\",\"message\":");
	add_text(b, text);
	buffer_addf(b, ",\"reason\":\"InternalError\",\"details\":{\"causes\":[{\"message\":");
	add_text(b, text);
	buffer_addf(b, "}]},\"code\":500}");
}
