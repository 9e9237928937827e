/* libcurl's URL parser, and nothing of its transfers. */
#include "url.h"

#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int url_parse(const char *base, const char *location, CURLU **ret_url) {
	CURLU *u = curl_url();
	if (!u)
		return -ENOMEM;
	char *scheme = NULL;
	int r = 0;
	if (strlen(base) >= URL_MAX || curl_url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK ||
	    (location && curl_url_set(u, CURLUPART_URL, location, 0) != CURLUE_OK) ||
	    curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
		r = -EINVAL;
	curl_free(scheme);
	curl_url_set(u, CURLUPART_USER, NULL, 0);
	curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0);
	if (r < 0)
		curl_url_cleanup(u);
	else
		*ret_url = u;
	return r;
}

/* libcurl's strings become ours, so that one free fits all. */
static int url_text(CURLU *u, char **ret_text) {
	char *text = NULL;
	int r = curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK ? 0 : -EINVAL;
	char *copy = r == 0 && strlen(text) < URL_MAX ? strdup(text) : NULL;
	curl_free(text);
	if (!copy)
		return r < 0 ? r : -EINVAL;
	*ret_text = copy;
	return 0;
}

int url_join(const char *base, const char *location, char **ret_url) {
	CURLU *u;
	int r = url_parse(base, location, &u);
	if (r < 0)
		return r;
	r = url_text(u, ret_url);
	curl_url_cleanup(u);
	return r;
}

int url_origin(const char *url, char **ret_origin) {
	CURLU *u;
	char *scheme = NULL, *host = NULL, *port = NULL;
	int r = url_parse(url, NULL, &u);
	if (r < 0)
		return r;
	if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
		r = -EINVAL;
	for (char *p = host; r == 0 && *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (r == 0 && asprintf(ret_origin, "%s://%s:%s", scheme, host, port) < 0)
		r = -ENOMEM;
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return r;
}

int url_add(char **url, const char *name, const char *value) {
	CURLU *u;
	CLEANUP_BUFFER struct buffer pair = { 0 };
	buffer_addf(&pair, "%s=%s", name, value);
	CLEANUP_FREE char *text = buffer_take_text(&pair);
	if (!text)
		return -ENOMEM;
	int r = url_parse(*url, NULL, &u);
	if (r < 0)
		return r;
	char *longer;
	r = curl_url_set(u, CURLUPART_QUERY, text, CURLU_APPENDQUERY | CURLU_URLENCODE) == CURLUE_OK ? 0 : -EINVAL;
	if (r == 0)
		r = url_text(u, &longer);
	curl_url_cleanup(u);
	if (r == 0) {
		free(*url);
		*url = longer;
	}
	return r;
}

void form_add(struct buffer *form, const char *name, const char *value) {
	char *escaped = curl_easy_escape(NULL, value, (int)strlen(value));
	if (!escaped) {
		form->failed = true;
		return;
	}
	buffer_addf(form, "%s%s=%s", form->size ? "&" : "", name, escaped);
	curl_free(escaped);
}
