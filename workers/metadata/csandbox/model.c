#include "workers/metadata/csandbox/csandbox.h"

#include "base/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define US "\x1f" /* no valid part contains it */
#define KEY_MAX (2 + DIGEST_SIZE)

void csandboxes_init(struct csandboxes *c) {
	list_init(&c->all);
	map_init(&c->names);
}

void csandboxes_deinit(struct csandboxes *c) {
	list_for_each_safe (n, &c->all)
		csandbox_free(c, list_entry(n, struct csandbox, node));
	map_deinit(&c->names);
}

int csandbox_add(struct csandboxes *c, const Bulkhead__CsandboxRecord *record, struct csandbox **ret_sandbox) {
	if (!id_valid(record->id) || !id_valid(record->namespace_))
		return -EINVAL;
	struct csandbox *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	arena_init(&s->arena, 0);
	list_init(&s->waits);
	list_init(&s->ooms.askers);
	list_init(&s->ooms.answers);
	s->record = message_copy(&s->arena, &record->base);
	const char *name = s->record ? arena_printf(&s->arena, "%s" US "%s", record->namespace_, record->id) : NULL;
	int r = name ? csandbox_ooms_own(s) : -ENOMEM;
	if (r == 0)
		r = map_insert(&c->names, &s->by_name, name);
	if (r < 0) {
		if (name)
			csandbox_ooms_free(s);
		arena_deinit(&s->arena);
		free(s);
		return r;
	}
	list_append(&c->all, &s->node);
	*ret_sandbox = s;
	return 0;
}

void csandbox_free(struct csandboxes *c, struct csandbox *s) {
	csandbox_waits_end(s);
	csandbox_ooms_free(s);
	map_remove(&c->names, &s->by_name);
	list_unlink(&s->node);
	arena_deinit(&s->arena);
	free(s);
}

struct csandbox *csandbox_find(const struct csandboxes *c, const char *namespace, const char *id) {
	char name[200];
	int size = snprintf(name, sizeof(name), "%s" US "%s", namespace, id);
	struct map_node *n = size < (int)sizeof(name) ? map_find(&c->names, name) : NULL;
	return n ? container_of(n, struct csandbox, by_name) : NULL;
}

struct csandbox *csandbox_find_pod(const struct csandboxes *c, const char *pod_id) {
	list_for_each (n, &c->all) {
		struct csandbox *s = list_entry(n, struct csandbox, node);
		if (strcmp(s->record->pod->id, pod_id) == 0)
			return s;
	}
	return NULL;
}

bool csandbox_is_up(const struct csandbox *s) {
	return s->record->state == CSANDBOX(READY) || s->record->state == CSANDBOX(PAUSED);
}

/* --- the store -------------------------------------------------------------- */

static void store_key(const struct csandbox *s, char ret_key[KEY_MAX]) {
	memcpy(ret_key, "p/", 2);
	sha256_digest(s->by_name.key, strlen(s->by_name.key), ret_key + 2);
}

int csandbox_save(struct metadata *m, const struct csandbox *s) {
	char key[KEY_MAX];
	store_key(s, key);
	return store_put(m->store, STORE_PODS, key, RECORD_CSANDBOX, &s->record->base);
}

int csandbox_unsave(struct metadata *m, const struct csandbox *s) {
	char key[KEY_MAX];
	store_key(s, key);
	return store_delete(m->store, STORE_PODS, key);
}

/* --- for requests ----------------------------------------------------------- */

const char *csandbox_text(const Bulkhead__CsandboxKey *key, char ret_text[CSANDBOX_TEXT_MAX]) {
	snprintf(ret_text, CSANDBOX_TEXT_MAX, "sandbox \"%.76s\" in namespace \"%.76s\"", key->id, key->namespace_);
	return ret_text;
}

/* As containerd calls its own: all are this one. */
static bool sandboxer_known(const char *name) {
	static const char *const names[] = { "", "shim", "podsandbox" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

int csandbox_key_check(const Bulkhead__CsandboxKey *key, struct fault *fault) {
	Bulkhead__ObjectKey id = BULKHEAD__OBJECT_KEY__INIT;
	char text[CSANDBOX_TEXT_MAX];
	id.kind = BULKHEAD__OBJECT_KIND__OBJECT_SANDBOX;
	id.namespace_ = key ? key->namespace_ : (char *)"";
	id.key = key ? key->id : (char *)"";
	int r = object_key_check(&id, fault);
	if (r == 0 && !sandboxer_known(key->sandboxer))
		return fault_set(fault, FAULT_NOT_FOUND, "%s: there is no sandboxer \"%.100s\", only shim",
				 csandbox_text(key, text), key->sandboxer);
	return r;
}

int csandbox_of(struct metadata *m, const Bulkhead__CsandboxKey *key, struct csandbox **ret_sandbox,
		struct fault *fault) {
	char text[CSANDBOX_TEXT_MAX];
	int r = csandbox_key_check(key, fault);
	if (r < 0)
		return r;
	struct csandbox *s = csandbox_find(&m->csandboxes, key->namespace_, key->id);
	if (!s || !s->made)
		return fault_set(fault, FAULT_NOT_FOUND, "%s: not found", csandbox_text(key, text));
	*ret_sandbox = s;
	return 0;
}
