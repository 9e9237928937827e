#include "workers/init/init.h"

#include "base/log.h"
#include "base/macros.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "agent."
#define LINE_ADDRESS "serial://"
#define PORT_ADDRESS LINE_ADDRESS "/dev/virtio-ports/"

/* printf's, for an option of the supervisor; what the options are made of is
 * never freed. */
static void option_add(struct init_parameters *p, const char *format, const char *value) {
	char *text;
	if (p->n_options + 2 > INIT_OPTIONS_MAX || asprintf(&text, format, value) < 0)
		return;
	p->options[p->n_options++] = "--set";
	p->options[p->n_options++] = text;
}

static void on_server_addr(struct init_parameters *p, const char *value) {
	/* A path of a unix socket is written with this scheme in front. */
	static const char unix_scheme[] = "unix://";
	if (strncmp(value, PORT_ADDRESS, strlen(PORT_ADDRESS)) == 0)
		snprintf(p->port, sizeof(p->port), "%s", value + strlen(PORT_ADDRESS));
	else if (strncmp(value, LINE_ADDRESS, strlen(LINE_ADDRESS)) == 0)
		snprintf(p->line, sizeof(p->line), "%s", value + strlen(LINE_ADDRESS));
	if (strncmp(value, unix_scheme, strlen(unix_scheme)) == 0)
		value += strlen(unix_scheme);
	option_add(p, "endpoint.agent.socket=%s", value);
}

static void on_log(struct init_parameters *p, const char *value) {
	static const struct {
		const char *kata, *ours;
	} levels[] = {
		{ "trace", "debug" },  { "debug", "debug" }, { "info", "info" },      { "warn", "warn" },
		{ "warning", "warn" }, { "error", "error" }, { "critical", "error" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (strcmp(levels[i].kata, value) == 0) {
			option_add(p, "log_level=%s", levels[i].ours);
			return;
		}
	log_text(LOG_WARN, PREFIX "log: there is no level \"%s\"", value);
}

static void on_hotplug_timeout(struct init_parameters *p, const char *value) {
	char *end;
	unsigned long seconds = strtoul(value, &end, 10);
	if (*end || seconds < 1 || seconds > 3600)
		log_text(LOG_WARN, PREFIX "hotplug_timeout: \"%s\" isn't 1 to 3600 seconds", value);
	else
		option_add(p, "agent_hotplug_timeout_s=%s", value);
}

static void on_unified(struct init_parameters *p, const char *value) {
	p->cgroup_v1 = strcmp(value, "0") == 0 || strcmp(value, "false") == 0;
}

static const struct {
	const char *name;
	void (*set)(struct init_parameters *p, const char *value);
} known[] = {
	{ .name = "server_addr", .set = on_server_addr },
	{ .name = "log", .set = on_log },
	{ .name = "hotplug_timeout", .set = on_hotplug_timeout },
	{ .name = "unified_cgroup_hierarchy", .set = on_unified },
};

static void parameter_set(struct init_parameters *p, const char *name, const char *value) {
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strcmp(known[i].name, name) == 0) {
			known[i].set(p, value);
			return;
		}
	log_event(LOG_WARN, "a kernel parameter of the agent's without effect here", "name", name, "value", value,
		  NULL);
}

void parameters_read(char *line, struct init_parameters *ret_parameters) {
	*ret_parameters = (struct init_parameters){ 0 };
	for (char *word; (word = strsep(&line, " \t\n"));) {
		if (strncmp(word, PREFIX, strlen(PREFIX)) != 0)
			continue;
		char *value = strchr(word, '=');
		if (value)
			*value++ = '\0';
		parameter_set(ret_parameters, word + strlen(PREFIX), value ? value : "");
	}
}
