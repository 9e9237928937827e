/*
 * One CNI network configuration, parsed: the plugins in order, those that the
 * keeper can do itself as typed options, the others as the JSON that their
 * program reads. Supported are the versions 0.3.0 to 1.1.0. json-c lives in
 * this folder's conflist.c, native.c and runtime.c only.
 */
#pragma once

#include "base/arena.h"
#include "base/fault.h"
#include "internal/keeper.pb-c.h"

#include <json-c/json.h>
#include <stdbool.h>

#define CONFLIST_SIZE_MAX (256 * 1024)
#define CONFLIST_PLUGINS_MAX 16
#define CNI_CACHE_DIR "/var/lib/cni" /* what plugins take when nobody says otherwise */

/* What a plugin asks to be told about each pod: its "capabilities". */
enum conflist_capability {
	CAPABILITY_PORT_MAPPINGS = 1 << 0,
	CAPABILITY_DNS = 1 << 1,
	CAPABILITY_ANNOTATIONS = 1 << 2,
	CAPABILITY_BANDWIDTH = 1 << 3,
};

struct conflist {
	/* Without what differs between pods: name, cni_version, plugins. */
	const char *name, *cni_version;
	Bulkhead__NetworkPlan__Plugin *plugins[CONFLIST_PLUGINS_MAX];
	unsigned capabilities[CONFLIST_PLUGINS_MAX];
	size_t n_plugins;
	bool executes; /* at least one plugin is executed */
};

/* Everything in ret_list is in the arena. The sentence of a fault doesn't name
 * the file; the caller does. */
int conflist_parse(const char *text, size_t size, const char *cache_dir, struct arena *arena, struct conflist *ret_list,
		   struct fault *fault);

/* --- within this folder --- */

/* The keeper can do the plugin of that type itself, and every option it has:
 * fills p's native part. False: it's to be executed. */
bool native_plugin(struct json_object *config, const char *type, const char *cache_dir, struct arena *arena,
		   Bulkhead__NetworkPlan__Plugin *p);

/* The member when it's there and of that type, else NULL. */
struct json_object *json_member(struct json_object *o, const char *key, enum json_type type);
/* Cut to a C string; "" when it isn't there or has a NUL inside. */
const char *json_member_text(struct json_object *o, const char *key);

/* The "runtimeConfig" of a plugin with those capabilities, for one pod. *ret_text
 * (in the arena) is NULL when there's nothing to say. */
int runtime_config(unsigned capabilities, const Bulkhead__SandboxStartRequest *sandbox, struct arena *arena,
		   const char **ret_text, struct fault *fault);
