/*
 * What the configuration's OCI runtimes say of themselves. The zygote runs them
 * and hands over what they have printed, which is read here: JSON of the OCI
 * runtime specification's "features". A runtime that says nothing, or nothing
 * that can be read, has no feature that a client could rely on.
 *
 * Asked when a zygote arrives and when the configuration is read again.
 */
#include "task.h"

#include "base/clock.h"
#include "base/log.h"

#include <json-c/json.h>
#include <string.h>

#define ASK_LIMIT (10 * NS_PER_SEC)
#define DEPTH_MAX 16

static void json_put(json_object **o) {
	json_object_put(*o);
}

static bool lists(json_object *o, const char *key, const char *wanted) {
	json_object *array;
	if (!json_object_object_get_ex(o, key, &array) || !json_object_is_type(array, json_type_array))
		return false;
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		json_object *item = json_object_array_get_idx(array, i);
		if (json_object_is_type(item, json_type_string) && strcmp(json_object_get_string(item), wanted) == 0)
			return true;
	}
	return false;
}

static json_object *parse(const char *output, size_t size) {
	struct json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
	json_object *o = t && size <= INT32_MAX ? json_tokener_parse_ex(t, output, (int)size) : NULL;
	if (t)
		json_tokener_free(t);
	return o;
}

void features_of(const char *output, size_t size, struct task_handler *ret_handler) {
	CLEANUP(json_put) json_object *o = parse(output, size);
	json_object *part;
	if (!o || !json_object_is_type(o, json_type_object))
		return;
	ret_handler->recursive_read_only = lists(o, "mountOptions", "rro");
	if (json_object_object_get_ex(o, "linux", &part) && json_object_is_type(part, json_type_object))
		ret_handler->user_namespaces = lists(part, "namespaces", "user");
	ret_handler->known = true;
}

static void asked(void *ctx, const struct msg_answer *a) {
	struct task_handler *h = ctx;
	h->asking = NULL;
	if (!a->fault) {
		const Bulkhead__RuntimeFeaturesReply *m = runtime_features_answer(a);
		features_of((const char *)m->output.data, m->output.len, h);
	}
	if (!h->known)
		log_event(LOG_WARN, "a runtime's features aren't known", "runtime", h->name, "why",
			  a->fault ? a->fault->text : "what it says can't be read", NULL);
}

void features_ask_all(struct task_worker *w) {
	const struct boot_config *config = &w->worker->config;
	for (size_t i = 0; i < w->n_handlers; i++)
		msg_cancel(take_ptr(w->handlers[i].asking));
	w->n_handlers = MIN(config->n_runtimes, (uint32_t)BOOT_RUNTIMES_MAX);
	for (size_t i = 0; i < w->n_handlers; i++) {
		struct task_handler *h = &w->handlers[i];
		struct msg_context context = { .deadline = clock_mono() + ASK_LIMIT };
		Bulkhead__RuntimeFeaturesRequest m = BULKHEAD__RUNTIME_FEATURES_REQUEST__INIT;
		*h = (struct task_handler){ 0 };
		memcpy(h->name, config->runtimes[i].name, sizeof(h->name));
		m.name = h->name;
		/* Virtual machines are our own: there is no program to ask. */
		if (!config->runtimes[i].path[0])
			continue;
		h->asking = runtime_features_send(w->zygote, &context, &m, NULL, 0, asked, h);
	}
}
