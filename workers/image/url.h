/*
 * URLs, taken apart by the same parser that connects to them: what is checked
 * here is what is asked there. Texts are the caller's to free.
 */
#pragma once

#include "base/buffer.h"

#define URL_MAX 8192

/* Where location leads from base (NULL: base itself): absolute, without user,
 * password and fragment; -EINVAL when it is no http or https URL. */
int url_join(const char *base, const char *location, char **ret_url);
/* "https://registry.example:443": what credentials are bound to. */
int url_origin(const char *url, char **ret_origin);
/* Appends one query parameter. */
int url_add(char **url, const char *name, const char *value);
/* name=value, percent-encoded, with "&" in front when form isn't empty. */
void form_add(struct buffer *form, const char *name, const char *value);
