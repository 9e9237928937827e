#include "workers/metadata/info.h"

#include "base/clock.h"
#include "base/json.h"
#include "msg/message_json.h"
#include "workers/metadata/view.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void texts(struct json *j, const char *key, char *const *list, size_t n) {
	json_open(j, key, '[');
	for (size_t i = 0; i < n; i++)
		json_text(j, NULL, list[i]);
	json_close(j, ']');
}

static char *take_info(struct arena *a, struct json *j) {
	CLEANUP_FREE char *text = buffer_take_text(&j->text);
	return text ? arena_strdup(a, text) : NULL;
}

/* --- pod sandboxes ---------------------------------------------------------- */

char *info_sandbox(struct arena *a, const struct sandbox *s) {
	struct json j = { 0 };
	const Bulkhead__SandboxStartReply *t = s->record->started;
	json_open(&j, NULL, '{');
	json_number(&j, "pid", t ? t->keeper_pid : 0);
	json_text(&j, "netns", t ? t->netns_path : "");
	json_text(&j, "hostname", s->record->config->hostname);
	json_text(&j, "logDirectory", s->record->config->log_directory);
	json_text(&j, "runtimeHandler", s->record->runtime_handler);
	message_json(&j, "config", &s->record->config->base, MESSAGE_PLAIN);
	Grpc__Spec *spec = view_sandbox_spec(a, s);
	if (spec)
		message_json(&j, "runtimeSpec", &spec->base, MESSAGE_OCI);
	texts(&j, "warnings", t ? t->warnings : NULL, t ? t->n_warnings : 0);
	json_close(&j, '}');
	return take_info(a, &j);
}

/* --- containers ------------------------------------------------------------- */

char *info_container(struct metadata *m, struct arena *a, struct container *c) {
	struct json j = { 0 };
	const Bulkhead__TaskCreateReply *t = c->record->task;
	Grpc__Spec *spec;
	struct fault fault;
	json_open(&j, NULL, '{');
	json_text(&j, "sandboxID", c->record->sandbox_id);
	json_number(&j, "pid", c->record->phase == BULKHEAD__CONTAINER_PHASE__CONTAINER_UP && t ? t->pid : 0);
	json_bool(&j, "removing", c->op != NULL);
	json_text(&j, "snapshotKey", c->record->id);
	json_text(&j, "cgroupPath", t ? t->cgroup_path : "");
	message_json(&j, "config", &c->record->config->base, MESSAGE_PLAIN);
	if (view_container_spec(m, a, c, &spec, &fault) == 0)
		message_json(&j, "runtimeSpec", &spec->base, MESSAGE_OCI);
	texts(&j, "warnings", t ? t->warnings : NULL, t ? t->n_warnings : 0);
	json_close(&j, '}');
	return take_info(a, &j);
}

/* --- images ----------------------------------------------------------------- */

/* The image specification leaves out what an image doesn't say. */
static void text_if(struct json *j, const char *key, const char *text) {
	if (*text)
		json_text(j, key, text);
}

static void texts_if(struct json *j, const char *key, char *const *list, size_t n) {
	if (n > 0)
		texts(j, key, list, n);
}

/* A set is an object of empty objects there. */
static void set_if(struct json *j, const char *key, char *const *list, size_t n) {
	if (n == 0)
		return;
	json_open(j, key, '{');
	for (size_t i = 0; i < n; i++) {
		json_open(j, list[i], '{');
		json_close(j, '}');
	}
	json_close(j, '}');
}

static void created_if(struct json *j, int64_t ns) {
	time_t seconds = ns / NS_PER_SEC;
	char text[40], fraction[16];
	struct tm tm;
	if (ns <= 0 || !gmtime_r(&seconds, &tm) || !strftime(text, sizeof(text) - sizeof(fraction), "%FT%T", &tm))
		return;
	snprintf(fraction, sizeof(fraction), ".%09dZ", (int)(ns % NS_PER_SEC));
	json_text(j, "created", strcat(text, fraction));
}

static void image_config(struct json *j, const Bulkhead__ImageConfig *c) {
	json_open(j, "config", '{');
	text_if(j, "User", c->user);
	set_if(j, "ExposedPorts", c->exposed_ports, c->n_exposed_ports);
	texts_if(j, "Env", c->env, c->n_env);
	texts_if(j, "Entrypoint", c->entrypoint, c->n_entrypoint);
	texts_if(j, "Cmd", c->cmd, c->n_cmd);
	set_if(j, "Volumes", c->volumes, c->n_volumes);
	text_if(j, "WorkingDir", c->working_dir);
	text_if(j, "StopSignal", c->stop_signal);
	if (c->n_labels > 0) {
		json_open(j, "Labels", '{');
		for (size_t i = 0; i < c->n_labels; i++)
			json_text(j, c->labels[i]->key, c->labels[i]->value);
		json_close(j, '}');
	}
	json_close(j, '}');
}

static void image_rootfs(struct json *j, struct metadata *m, const struct image *i) {
	json_open(j, "rootfs", '{');
	json_text(j, "type", "layers");
	json_open(j, "diff_ids", '[');
	for (size_t k = 0; k < i->record->n_layers; k++) {
		const struct layer *l = model_find_layer(&m->model, i->record->layers[k]);
		if (l)
			json_text(j, NULL, l->record->diff_id);
	}
	json_close(j, ']');
	json_close(j, '}');
}

char *info_image(struct metadata *m, struct arena *a, const struct image *i) {
	struct json j = { 0 };
	const Bulkhead__ImageConfig *c = i->record->image_config;
	json_open(&j, NULL, '{');
	json_text(&j, "chainID", i->record->n_layers ? i->record->layers[i->record->n_layers - 1] : "");
	json_open(&j, "imageSpec", '{');
	created_if(&j, c->created_at);
	json_text(&j, "architecture", c->architecture);
	text_if(&j, "variant", c->variant);
	json_text(&j, "os", c->os);
	image_config(&j, c);
	image_rootfs(&j, m, i);
	json_close(&j, '}');
	json_close(&j, '}');
	return take_info(a, &j);
}
