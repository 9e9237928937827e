/* See session.h. The last reference that goes wipes the secrets. */
#include "session.h"

#include "worker.h"

#include <errno.h>

struct session *session_ref(struct session *s) {
	s->refs++;
	return s;
}

void session_unref(struct session *s) {
	if (!s || --s->refs > 0)
		return;
	struct image_worker *w = s->worker;
	list_unlink(&s->node);
	for (size_t i = 0; i < ARRAY_SIZE(s->auth); i++)
		auth_deinit(&s->auth[i]);
	credentials_deinit(&s->credentials);
	hosts_deinit(&s->hosts);
	free(s);
	/* Connections are worth keeping while a pull runs, not longer. */
	if (--w->n_sessions == 0)
		image_worker_idle(w);
}

int session_open(struct image_worker *w, const char *reference, const Bulkhead__Credentials *credentials,
		 bool plain_http, struct session **ret_session, struct fault *fault) {
	struct session *s = calloc(1, sizeof(*s));
	if (!s)
		return fault_errno(fault, ENOMEM, "image \"%s\"", reference);
	s->worker = w;
	s->refs = 1;
	list_init(&s->node);
	w->n_sessions++;
	int r = reference_parse(reference, &s->reference, fault);
	if (r == 0)
		r = hosts_load(w->config->certs_dir, s->reference.host, &s->hosts, fault);
	if (r == 0 && plain_http)
		hosts_plain(&s->hosts);
	if (r == 0)
		r = credentials_init(&s->credentials, credentials, fault);
	if (r < 0) {
		session_unref(s);
		return r;
	}
	*ret_session = s;
	return 0;
}

int session_new(struct image_worker *w, const Bulkhead__ImageResolveRequest *request, struct session **ret_session,
		struct fault *fault) {
	struct session *s;
	int r = session_open(w, request->reference, request->credentials, request->plain_http, &s, fault);
	if (r < 0)
		return r;
	s->pull_id = request->pull_id;
	/* The same pull again, after the first attempt failed. */
	struct session *old = session_find(w, request->pull_id);
	if (old)
		session_release(old);
	list_append(&w->sessions, &s->node);
	*ret_session = s;
	return 0;
}

struct session *session_find(struct image_worker *w, uint64_t pull_id) {
	list_for_each (n, &w->sessions) {
		struct session *s = list_entry(n, struct session, node);
		if (s->pull_id == pull_id)
			return s;
	}
	return NULL;
}

void session_release(struct session *s) {
	list_unlink(&s->node);
	session_unref(s);
}
