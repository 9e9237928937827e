#include "workers/metadata/made.h"

#include "base/log.h"
#include "workers/metadata/metadata.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEY_ROOM 80

static void key_of(const char *digest, char ret_key[KEY_ROOM]) {
	snprintf(ret_key, KEY_ROOM, "k/%.72s", digest);
}

static void made_free(struct made *x) {
	list_unlink(&x->node);
	arena_deinit(&x->arena);
	free(x);
}

void made_free_all(struct metadata *m) {
	list_for_each_safe (n, &m->made)
		made_free(list_entry(n, struct made, node));
}

const struct made *made_find(const struct metadata *m, const char *digest) {
	list_for_each (n, &m->made) {
		const struct made *x = list_entry(n, struct made, node);
		if (strcmp(x->record->digest, digest) == 0)
			return x;
	}
	return NULL;
}

/* Records come from the store in no order. */
static void insert(struct metadata *m, struct made *x) {
	list_for_each (n, &m->made)
		if (list_entry(n, struct made, node)->record->created_at > x->record->created_at) {
			list_append(n, &x->node);
			return;
		}
	list_append(&m->made, &x->node);
}

int made_load(struct metadata *m, const Bulkhead__CheckpointRecord *record) {
	if (!record->pipes || made_find(m, record->digest))
		return -EBADMSG;
	struct made *x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	arena_init(&x->arena, 0);
	list_init(&x->node);
	x->record = message_copy(&x->arena, &record->base);
	if (!x->record) {
		made_free(x);
		return -ENOMEM;
	}
	insert(m, x);
	return 0;
}

static void forget_oldest(struct metadata *m) {
	char key[KEY_ROOM];
	size_t n = 0;
	list_for_each (x, &m->made)
		n++;
	if (n <= MADE_MAX)
		return;
	struct made *oldest = list_entry(m->made.next, struct made, node);
	key_of(oldest->record->digest, key);
	if (store_delete(m->store, STORE_IMAGES, key) < 0)
		log_event(LOG_WARN, "record not deleted", "checkpoint", oldest->record->digest, NULL);
	made_free(oldest);
}

int made_add(struct metadata *m, const Bulkhead__CheckpointRecord *record) {
	char key[KEY_ROOM];
	key_of(record->digest, key);
	int r = made_find(m, record->digest) ? 0 : made_load(m, record);
	if (r == 0)
		r = store_put(m->store, STORE_IMAGES, key, RECORD_CHECKPOINT, &record->base);
	if (r == 0)
		forget_oldest(m);
	return r;
}
