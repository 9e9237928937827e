/*
 * What a link carries. The rows of messages.def that come from the API worker
 * each have a least level; a link that was made with less doesn't carry them:
 * its sender fails the call, its receiver takes it for a violation. Each level
 * includes those before it.
 */
#pragma once

enum link_access {
	ACCESS_NONE, /* only rows that aren't the API worker's */
	ACCESS_METRICS,
	ACCESS_READ_ONLY,
	ACCESS_FULL,
	ACCESS_COUNT
};

/* "read-only", as configured; NULL for a number that is none. */
const char *link_access_name(enum link_access access);
/* "is read-only", for sentences about an endpoint. */
const char *link_access_phrase(enum link_access access);
/* -EINVAL for a word that an endpoint can't have. */
int link_access_parse(const char *text, enum link_access *ret_access);
