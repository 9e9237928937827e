#include "base/fault.h"

#include "base/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int err;
} codes[] = {
	[FAULT_NONE] = { "OK", 0 },
	[FAULT_CANCELLED] = { "CANCELLED", ECANCELED },
	[FAULT_UNKNOWN] = { "UNKNOWN", EIO },
	[FAULT_INVALID_ARGUMENT] = { "INVALID_ARGUMENT", EINVAL },
	[FAULT_DEADLINE_EXCEEDED] = { "DEADLINE_EXCEEDED", ETIMEDOUT },
	[FAULT_NOT_FOUND] = { "NOT_FOUND", ENOENT },
	[FAULT_ALREADY_EXISTS] = { "ALREADY_EXISTS", EEXIST },
	[FAULT_PERMISSION_DENIED] = { "PERMISSION_DENIED", EACCES },
	[FAULT_RESOURCE_EXHAUSTED] = { "RESOURCE_EXHAUSTED", ENOSPC },
	[FAULT_FAILED_PRECONDITION] = { "FAILED_PRECONDITION", EBUSY },
	[FAULT_ABORTED] = { "ABORTED", EAGAIN },
	[FAULT_OUT_OF_RANGE] = { "OUT_OF_RANGE", ERANGE },
	[FAULT_UNIMPLEMENTED] = { "UNIMPLEMENTED", EOPNOTSUPP },
	[FAULT_INTERNAL] = { "INTERNAL", EIO },
	[FAULT_UNAVAILABLE] = { "UNAVAILABLE", ECONNREFUSED },
	[FAULT_DATA_LOSS] = { "DATA_LOSS", EBADMSG },
	[FAULT_UNAUTHENTICATED] = { "UNAUTHENTICATED", EKEYREJECTED },
};

const char *fault_code_name(enum fault_code code) {
	return (unsigned)code < ARRAY_SIZE(codes) ? codes[code].name : "UNKNOWN";
}

static enum fault_code code_of_errno(int err) {
	switch (err) {
	case ENOENT:
		return FAULT_NOT_FOUND;
	case EEXIST:
		return FAULT_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
		return FAULT_PERMISSION_DENIED;
	case EINVAL:
	case ENAMETOOLONG:
	case ELOOP:
	case ENOTDIR:
	case EISDIR:
	case E2BIG:
		return FAULT_INVALID_ARGUMENT;
	case ERANGE:
		return FAULT_OUT_OF_RANGE;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EFBIG:
		return FAULT_RESOURCE_EXHAUSTED;
	case ETIMEDOUT:
		return FAULT_DEADLINE_EXCEEDED;
	case ECANCELED:
		return FAULT_CANCELLED;
	case EBUSY:
	case EROFS:
		return FAULT_FAILED_PRECONDITION;
	case EOPNOTSUPP:
	case ENOSYS:
		return FAULT_UNIMPLEMENTED;
	case ECONNREFUSED:
	case ECONNRESET:
	case EPIPE:
		return FAULT_UNAVAILABLE;
	case EBADMSG:
		return FAULT_DATA_LOSS;
	default:
		return FAULT_UNKNOWN;
	}
}

/* What ends in a log line or a gRPC header must be one line of valid UTF-8:
 * other bytes become '?'; a cut never leaves half a character. */
static void text_clean(char *text, size_t needed) {
	unsigned n;
	for (char *p = text; *p; p += n) {
		n = utf8_length(p, 4);
		if (n > 0 && (unsigned char)*p >= 0x20 && *p != 0x7f)
			continue;
		*p = '?';
		n = 1;
	}
	if (needed >= FAULT_TEXT_MAX)
		memcpy(text + FAULT_TEXT_MAX - 4, "...", 4);
}

int fault_set(struct fault *f, enum fault_code code, const char *format, ...) {
	f->code = code;
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	text_clean(f->text, (size_t)n);
	return -codes[code].err;
}

int fault_errno(struct fault *f, int err, const char *format, ...) {
	if (err < 0)
		err = -err;
	f->code = code_of_errno(err);
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	if (n < FAULT_TEXT_MAX)
		n +=
		    snprintf(f->text + n, sizeof(f->text) - (size_t)n, ": %s", strerrordesc_np(err) ?: "unknown error");
	text_clean(f->text, (size_t)n);
	return -err;
}

int fault_prefix(struct fault *f, int r, const char *format, ...) {
	char inner[FAULT_TEXT_MAX];
	memcpy(inner, f->text, sizeof(inner));
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	if (n < FAULT_TEXT_MAX)
		n += snprintf(f->text + n, sizeof(f->text) - (size_t)n, ": %s", inner);
	text_clean(f->text, (size_t)n);
	return r;
}
