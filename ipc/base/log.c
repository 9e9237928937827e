#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = { "debug", "info", "warn", "error" };
static const char *process_name = "bulkhead";
static enum log_level threshold = LOG_INFO;

void log_init(const char *name, enum log_level level) {
	process_name = name;
	threshold = level;
}

void log_set_level(enum log_level level) {
	threshold = level;
}

bool log_enabled(enum log_level level) {
	return level >= threshold;
}

int log_level_parse(const char *text, enum log_level *ret_level) {
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (strcmp(text, level_names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

struct line {
	char text[2048];
	size_t used;
};

static void line_add(struct line *l, const char *text, size_t n) {
	n = MIN(n, sizeof(l->text) - 1 - l->used);
	memcpy(l->text + l->used, text, n);
	l->used += n;
}

/* A value is quoted when it has to be; control characters become '?', so that
 * no value can forge a line. */
static void line_value(struct line *l, const char *value) {
	int quote = value[0] == '\0' || strpbrk(value, " \"=\\") != NULL;
	if (quote)
		line_add(l, "\"", 1);
	for (const char *p = value; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c == '"' || c == '\\')
			line_add(l, "\\", 1);
		line_add(l, c < 0x20 || c == 0x7f ? "?" : p, 1);
	}
	if (quote)
		line_add(l, "\"", 1);
}

static void line_begin(struct line *l, enum log_level level, const char *message) {
	struct timespec ts;
	struct tm tm;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	l->used = strftime(l->text, sizeof(l->text), "%Y-%m-%dT%H:%M:%S", &tm);
	l->used += (size_t)snprintf(l->text + l->used, sizeof(l->text) - l->used,
				    ".%03ldZ %s %s[%d] msg=", ts.tv_nsec / 1000000, level_names[level], process_name,
				    (int)getpid());
	line_value(l, message);
}

static void line_end(struct line *l) {
	int saved = errno;
	l->text[l->used++] = '\n';
	/* A log that can't be written has nowhere to say so. */
	ssize_t ignored = write(STDERR_FILENO, l->text, l->used);
	(void)ignored;
	errno = saved;
}

void log_event(enum log_level level, const char *message, ...) {
	if (level < threshold)
		return;
	struct line l;
	line_begin(&l, level, message);
	va_list ap;
	va_start(ap, message);
	const char *key;
	while ((key = va_arg(ap, const char *))) {
		const char *value = va_arg(ap, const char *);
		line_add(&l, " ", 1);
		line_add(&l, key, strlen(key));
		line_add(&l, "=", 1);
		line_value(&l, value ? value : "");
	}
	va_end(ap);
	line_end(&l);
}

void log_text(enum log_level level, const char *format, ...) {
	if (level < threshold)
		return;
	char message[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(message, sizeof(message), format, ap);
	va_end(ap);
	struct line l;
	line_begin(&l, level, message);
	line_end(&l);
}
