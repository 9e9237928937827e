/*
 * The configuration: `key = value` lines, # starts a comment. It is all that
 * the supervisor parses. What workers need of it travels in struct boot_config.
 */
#pragma once

#include "base/fault.h"
#include "boot/boot.h"

#define CONFIG_DEFAULT_FILE "/etc/bulkhead/bulkhead.conf"

#define CONFIG_ACCOUNT_MAX 64

/* The socket's file of the endpoint at the same place in boot.endpoints. */
struct listener_config {
	char owner[CONFIG_ACCOUNT_MAX], group[CONFIG_ACCOUNT_MAX]; /* a name or a number */
	uint32_t mode;
	char where[BOOT_PATH_MAX]; /* in the configuration; empty: it is there by itself */
};
#define LISTENER_DEFAULT \
	{ .owner = "root", .group = "root", .mode = 0660 }

struct config {
	struct boot_config boot;
	struct listener_config listeners[BOOT_ENDPOINTS_MAX];
	char stream_address[64];   /* of the streaming server: IPv4 or IPv6 */
	uint32_t stream_port;	   /* 0: any that is free */
	uint32_t uid_base;	   /* where bulkhead-ROLE is no user: uid_base + role */
	uint32_t worker_timeout_s; /* unanswered for so long: ended and replaced; 0: never */
	uint32_t stop_timeout_s;   /* how long a worker may take to finish at the end */
};

/* Where a configuration comes from; options are "key=value" and win. */
struct config_source {
	const char *file;
	bool file_required;
	const char **options;
	size_t n_options;
};

/* On an error *ret_config is untouched and fault names file and line. */
int config_load(const struct config_source *source, struct config *ret_config, struct fault *fault) NODISCARD;
/* Sets one key from text; for config_load and tests. where names the place in
 * messages: "bulkhead.conf:3". */
int config_set(struct config *c, const char *where, const char *key, const char *value, struct fault *fault) NODISCARD;
/* Copies to *c what may change while the daemon runs. Returns the name of a
 * key that differs but may not, or NULL. */
const char *config_reload(struct config *c, const struct config *from);

/* --- between config.c and endpoint.c --- */

/* key: "NAME.FIELD". */
int endpoint_set(struct config *c, const char *where, const char *key, const char *value,
		 struct fault *fault) NODISCARD;
/* Fills in what no line said, and judges what no single line shows. */
int endpoints_finish(struct config *c, struct fault *fault) NODISCARD;
bool endpoints_equal(const struct config *a, const struct config *b);
/* Absolute, no "//", "." or "..", no slash at the end but in "/": two spellings
 * of one folder would be two folders to whoever compares them. */
bool config_path_clean(const char *path, size_t n);
/* An RFC 1123 label of at most 31 bytes. */
bool config_label_valid(const char *name);
