#include "workers/metadata/ctask/ctask.h"

#include "base/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define US "\x1f" /* no valid part contains it */
#define KEY_MAX (2 + DIGEST_SIZE)

void ctasks_init(struct ctasks *c) {
	list_init(&c->all);
	map_init(&c->names);
	map_init(&c->pods);
}

void ctasks_deinit(struct ctasks *c) {
	list_for_each_safe (n, &c->all)
		ctask_free(c, list_entry(n, struct ctask, node));
	map_deinit(&c->names);
	map_deinit(&c->pods);
}

/* A pod may have several. */
static int index_add(struct ctasks *c, struct ctask *t) {
	const Bulkhead__CtaskRecord *record = t->record;
	const char *name = arena_printf(&t->arena, "%s" US "%s", record->namespace_, record->container_id);
	const char *in_pod = arena_printf(&t->arena, "%s" US "%s", record->sandbox_id, record->container_id);
	int r = name && in_pod ? map_insert(&c->names, &t->by_name, name) : -ENOMEM;
	if (r < 0)
		return r;
	r = record->lent ? 0 : map_insert(&c->pods, &t->by_pod, in_pod);
	if (r < 0)
		map_remove(&c->names, &t->by_name);
	return r;
}

int ctask_add(struct ctasks *c, const Bulkhead__CtaskRecord *record, struct ctask **ret_task) {
	if (!id_valid(record->container_id) || !id_valid(record->namespace_) || !id_valid(record->sandbox_id))
		return -EINVAL;
	struct ctask *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	arena_init(&t->arena, 0);
	list_init(&t->waits);
	list_init(&t->told);
	t->record = message_copy(&t->arena, &record->base);
	int r = t->record ? ctask_execs_own(t) : -ENOMEM;
	if (r == 0)
		r = index_add(c, t);
	if (r < 0) {
		if (t->record)
			ctask_execs_free(t);
		arena_deinit(&t->arena);
		free(t);
		return r;
	}
	list_append(&c->all, &t->node);
	*ret_task = t;
	return 0;
}

void ctask_free(struct ctasks *c, struct ctask *t) {
	ctask_waits_end(t);
	ctask_waited_free(t);
	map_remove(&c->names, &t->by_name);
	if (!t->record->lent)
		map_remove(&c->pods, &t->by_pod);
	list_unlink(&t->node);
	ctask_execs_free(t);
	arena_deinit(&t->arena);
	free(t);
}

static struct map_node *find(const struct map *map, const char *where, const char *container_id) {
	char name[200];
	int size = snprintf(name, sizeof(name), "%s" US "%s", where, container_id);
	return size < (int)sizeof(name) ? map_find(map, name) : NULL;
}

struct ctask *ctask_find(const struct ctasks *c, const char *namespace, const char *container_id) {
	struct map_node *n = find(&c->names, namespace, container_id);
	return n ? container_of(n, struct ctask, by_name) : NULL;
}

struct ctask *ctask_find_in_pod(const struct ctasks *c, const char *sandbox_id, const char *container_id) {
	struct map_node *n = find(&c->pods, sandbox_id, container_id);
	return n ? container_of(n, struct ctask, by_pod) : NULL;
}

struct ctask *ctask_with_status(const struct ctasks *c, const char *sandbox_id, Bulkhead__CtaskStatus status) {
	list_for_each (n, &c->all) {
		struct ctask *t = list_entry(n, struct ctask, node);
		if (t->made && t->record->status == status && strcmp(t->record->sandbox_id, sandbox_id) == 0)
			return t;
	}
	return NULL;
}

char **ctask_ids_in(const struct ctasks *c, const char *sandbox_id, struct arena *a, size_t *ret_n) {
	char **ids = arena_alloc(a, (c->names.n_nodes + 1) * sizeof(*ids));
	size_t n = 0;
	list_for_each (node, &c->all) {
		const struct ctask *t = list_entry(node, struct ctask, node);
		if (ids && strcmp(t->record->sandbox_id, sandbox_id) == 0)
			ids[n++] = t->record->container_id;
	}
	*ret_n = n;
	return ids;
}

/* --- the store -------------------------------------------------------------- */

static void store_key(const struct ctask *t, char ret_key[KEY_MAX]) {
	memcpy(ret_key, "t/", 2);
	sha256_digest(t->by_name.key, strlen(t->by_name.key), ret_key + 2);
}

int ctask_save(struct metadata *m, const struct ctask *t) {
	char key[KEY_MAX];
	if (t->record->lent && t->record->n_execs == 0)
		return ctask_unsave(m, t);
	store_key(t, key);
	return store_put(m->store, STORE_PODS, key, RECORD_CTASK, &t->record->base);
}

int ctask_unsave(struct metadata *m, const struct ctask *t) {
	char key[KEY_MAX];
	store_key(t, key);
	return store_delete(m->store, STORE_PODS, key);
}

/* --- for requests ----------------------------------------------------------- */

const char *ctask_text(const Bulkhead__CtaskKey *key, char ret_text[CTASK_TEXT_MAX]) {
	if (*key->exec_id)
		snprintf(ret_text, CTASK_TEXT_MAX, "process \"%.64s\" of task \"%.76s\" in namespace \"%.76s\"",
			 key->exec_id, key->container_id, key->namespace_);
	else if (key->pid)
		snprintf(ret_text, CTASK_TEXT_MAX, "process %u of task \"%.76s\" in namespace \"%.76s\"", key->pid,
			 key->container_id, key->namespace_);
	else
		snprintf(ret_text, CTASK_TEXT_MAX, "task \"%.76s\" in namespace \"%.76s\"", key->container_id,
			 key->namespace_);
	return ret_text;
}

static int missing(const Bulkhead__CtaskKey *key, struct fault *fault) {
	char text[CTASK_TEXT_MAX];
	return fault_set(fault, FAULT_NOT_FOUND, "%s: not found", ctask_text(key, text));
}

int ctask_of(struct metadata *m, const Bulkhead__CtaskKey *key, struct ctask **ret_task, struct fault *fault) {
	if (!key || !*key->namespace_)
		return fault_set(fault, FAULT_INVALID_ARGUMENT, "a namespace is required");
	struct ctask *t = ctask_find(&m->ctasks, key->namespace_, key->container_id);
	if (!t || t->record->lent)
		t = ctask_lend(m, key);
	if (!t || !t->made)
		return missing(key, fault);
	*ret_task = t;
	return 0;
}

static Bulkhead__CtaskExec *exec_of_pid(const struct ctask *t, uint32_t pid) {
	for (size_t i = 0; i < t->record->n_execs; i++)
		if (t->record->execs[i]->pid == pid)
			return t->record->execs[i];
	return NULL;
}

int ctask_process_of(struct metadata *m, const Bulkhead__CtaskKey *key, struct ctask **ret_task,
		     Bulkhead__CtaskExec **ret_exec, struct fault *fault) {
	int r = ctask_of(m, key, ret_task, fault);
	if (r < 0)
		return r;
	const struct ctask *t = *ret_task;
	bool first = key->pid ? key->pid == (uint32_t)t->record->task->pid : !*key->exec_id;
	*ret_exec = first ? NULL : key->pid ? exec_of_pid(t, key->pid) : ctask_exec_find(t, key->exec_id);
	return first || *ret_exec ? 0 : missing(key, fault);
}
