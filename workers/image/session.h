/*
 * One pull: the reference, the hosts that may have it, the credentials, and
 * what was learnt on the way (tokens, hosts that are away). Begun by
 * image_resolve, ended by image_release; what still works on it holds a
 * reference of its own.
 */
#pragma once

#include "auth.h"
#include "hosts.h"
#include "reference.h"

#include "base/list.h"

struct image_worker;

struct session {
	struct list node; /* in the worker's sessions until released */
	struct image_worker *worker;
	uint64_t pull_id;
	unsigned refs;
	struct reference reference;
	struct hosts hosts;
	struct credentials credentials;
	struct auth auth[HOSTS_MAX]; /* by host */
	bool away[HOSTS_MAX];	     /* couldn't be reached; asked again last */
};

/* Of a reference alone, for who keeps it to himself: no pull_id finds it. */
int session_open(struct image_worker *w, const char *reference, const Bulkhead__Credentials *credentials,
		 bool plain_http, struct session **ret_session, struct fault *fault);
int session_new(struct image_worker *w, const Bulkhead__ImageResolveRequest *request, struct session **ret_session,
		struct fault *fault);
struct session *session_ref(struct session *s);
void session_unref(struct session *s);
/* NULL when there is none. */
struct session *session_find(struct image_worker *w, uint64_t pull_id);
/* From now on session_find doesn't find it. */
void session_release(struct session *s);
