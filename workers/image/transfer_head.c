/* The fields of an answer's head that somebody needs. */
#include "transfer_private.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static void keep_text(char *out, size_t size, const char *value) {
	if (strlen(value) < size)
		strcpy(out, value);
}

static void keep_authenticate(struct transfer_head *h, const char *value) {
	size_t used = strlen(h->authenticate);
	if (used + 2 + strlen(value) < sizeof(h->authenticate))
		sprintf(h->authenticate + used, "%s%s", used ? ", " : "", value);
}

/* Up to the first byte that is no digit; -1 when there is none, or too many. */
static int64_t number(const char *p) {
	int64_t n = 0;
	size_t digits = 0;
	for (; isdigit((unsigned char)*p) && digits < 18; p++, digits++)
		n = n * 10 + (*p - '0');
	return digits && !isdigit((unsigned char)*p) ? n : -1;
}

/* bytes 100-199/200 */
static void keep_range(struct transfer_head *h, const char *value) {
	const char *slash = strchr(value, '/');
	if (strncasecmp(value, "bytes ", 6) != 0 || !slash)
		return;
	h->range_start = number(value + 6);
	h->range_total = number(slash + 1);
}

/* Seconds, or the date when they are over. */
static int64_t retry_after(const char *value) {
	int64_t s = number(value);
	time_t date = s < 0 ? curl_getdate(value, NULL) : -1;
	return date < 0 ? s : MAX((int64_t)date - (int64_t)time(NULL), 0);
}

void transfer_head_keep(struct transfer_head *h, const char *name, const char *value) {
	if (strcasecmp(name, "content-type") == 0)
		keep_text(h->content_type, sizeof(h->content_type), value);
	else if (strcasecmp(name, "docker-content-digest") == 0)
		keep_text(h->digest, sizeof(h->digest), value);
	else if (strcasecmp(name, "location") == 0)
		keep_text(h->location, sizeof(h->location), value);
	else if (strcasecmp(name, "www-authenticate") == 0)
		keep_authenticate(h, value);
	else if (strcasecmp(name, "content-length") == 0)
		h->content_length = number(value);
	else if (strcasecmp(name, "content-range") == 0)
		keep_range(h, value);
	else if (strcasecmp(name, "retry-after") == 0)
		h->retry_after_s = retry_after(value);
}

void transfer_head_reset(struct transfer_head *h) {
	memset(h, 0, sizeof(*h));
	h->content_length = h->range_start = h->range_total = h->retry_after_s = -1;
}
