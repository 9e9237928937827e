#include "workers/stream/http.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

ssize_t http_head_size(const void *data, size_t size) {
	const char *end = memmem(data, MIN(size, (size_t)HTTP_HEAD_MAX), "\r\n\r\n", 4);
	if (end)
		return end - (const char *)data + 4;
	return size >= HTTP_HEAD_MAX ? -EMSGSIZE : 0;
}

static bool token_char(char c) {
	return c && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		     strchr("!#$%&'*+-.^_`|~", c));
}

static bool token(const char *text) {
	const char *p = text;
	while (token_char(*p))
		p++;
	return p > text && !*p;
}

/* Visible characters, spaces and tabs; no NUL can be in it unseen, since the
 * line's size is compared. */
static bool printable(const char *text, size_t size, bool spaces) {
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == 127 || c < 32 ? c != '\t' || !spaces : c == ' ' && !spaces)
			return false;
	}
	return true;
}

static int request_line(char *line, size_t size, struct http_request *r) {
	char *target = memchr(line, ' ', size);
	char *version = target ? memchr(target + 1, ' ', size - (size_t)(target + 1 - line)) : NULL;
	if (!version || strcmp(version, " HTTP/1.1") != 0)
		return -EBADMSG;
	*target++ = '\0';
	*version = '\0';
	if (!token(line) || *target != '/' || !printable(target, (size_t)(version - target), false))
		return -EBADMSG;
	r->method = line;
	r->target = target;
	return 0;
}

static int header_line(char *line, size_t size, struct http_request *r) {
	char *colon = memchr(line, ':', size);
	if (!colon || r->n_headers == HTTP_HEADERS_MAX)
		return -EBADMSG;
	*colon = '\0';
	char *value = colon + 1, *end = line + size;
	if (!token(line) || !printable(value, (size_t)(end - value), true))
		return -EBADMSG;
	value += strspn(value, " \t");
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	r->headers[r->n_headers++] = (struct http_header){ line, value };
	return 0;
}

int http_parse(char *head, size_t size, struct http_request *ret_request) {
	struct http_request r = { 0 };
	char *end = head + size;
	int e = 0;
	for (char *line = head; e == 0 && line < end;) {
		char *stop = memmem(line, (size_t)(end - line), "\r\n", 2);
		if (!stop)
			return -EBADMSG;
		if (stop == line)
			break;
		*stop = '\0';
		e = line == head ? request_line(line, (size_t)(stop - line), &r)
				 : header_line(line, (size_t)(stop - line), &r);
		line = stop + 2;
	}
	if (e < 0 || !r.method)
		return -EBADMSG;
	*ret_request = r;
	const char *length = http_header(ret_request, "Content-Length");
	bool several = !length && http_header_has(ret_request, "Content-Length", "0");
	if ((length && strcmp(length, "0") != 0) || several || http_header(ret_request, "Transfer-Encoding"))
		return -EOPNOTSUPP;
	return 0;
}

const char *http_header(const struct http_request *r, const char *name) {
	const char *found = NULL;
	for (size_t i = 0; i < r->n_headers; i++) {
		if (strcasecmp(r->headers[i].name, name) != 0)
			continue;
		if (found)
			return NULL;
		found = r->headers[i].value;
	}
	return found;
}

bool http_word(struct http_words *w, const char **ret_word, size_t *ret_size) {
	for (;;) {
		while (!w->rest) {
			if (w->next == w->request->n_headers)
				return false;
			const struct http_header *h = &w->request->headers[w->next++];
			if (strcasecmp(h->name, w->name) == 0)
				w->rest = h->value;
		}
		const char *p = w->rest + strspn(w->rest, " \t,");
		size_t n = strcspn(p, ",");
		w->rest = p[n] ? p + n + 1 : NULL;
		while (n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'))
			n--;
		if (n == 0)
			continue;
		*ret_word = p;
		*ret_size = n;
		return true;
	}
}

bool http_header_has(const struct http_request *r, const char *name, const char *word) {
	struct http_words w = { .request = r, .name = name };
	const char *p;
	size_t n;
	while (http_word(&w, &p, &n))
		if (n == strlen(word) && strncasecmp(p, word, n) == 0)
			return true;
	return false;
}
