/*
 * One table of protocols. The client's order counts: the first of its words
 * that is in the table for its transport and its kind of session.
 */
#include "workers/stream/upgrade.h"

#include <string.h>
#include <strings.h>

enum { SPDY = 1, WEBSOCKET = 2, REMOTE = 4, FORWARD = 8 };

static const struct protocol {
	const char *name;
	unsigned use;
	unsigned version;
	bool base64, tunnel;
} protocols[] = {
	{ .name = "v5.channel.k8s.io", .use = WEBSOCKET | REMOTE, .version = 5 },
	{ .name = "v4.channel.k8s.io", .use = SPDY | WEBSOCKET | REMOTE, .version = 4 },
	{ .name = "v4.channel.k8s.io", .use = WEBSOCKET | FORWARD, .version = 4 },
	{ .name = "v4.base64.channel.k8s.io", .use = WEBSOCKET | REMOTE | FORWARD, .version = 4, .base64 = true },
	{ .name = "v3.channel.k8s.io", .use = SPDY | WEBSOCKET | REMOTE, .version = 3 },
	{ .name = "v2.channel.k8s.io", .use = SPDY | WEBSOCKET | REMOTE, .version = 2 },
	{ .name = "channel.k8s.io", .use = SPDY | WEBSOCKET | REMOTE, .version = 1 },
	{ .name = "v1.channel.k8s.io", .use = SPDY | WEBSOCKET | REMOTE, .version = 1 },
	{ .name = "base64.channel.k8s.io", .use = WEBSOCKET | REMOTE, .version = 1, .base64 = true },
	{ .name = "portforward.k8s.io", .use = SPDY | FORWARD },
	{ .name = "SPDY/3.1+portforward.k8s.io", .use = WEBSOCKET | FORWARD, .tunnel = true },
};

static const struct protocol *protocol_find(const char *name, size_t size, unsigned use) {
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
		if ((protocols[i].use & use) == use && strlen(protocols[i].name) == size &&
		    memcmp(protocols[i].name, name, size) == 0)
			return &protocols[i];
	return NULL;
}

/* 1: chosen, 0: the client names none, -1: none that we know. */
static int protocol_choose(const struct http_request *r, const char *header, unsigned use, struct upgrade *u) {
	struct http_words w = { .request = r, .name = header };
	const char *word;
	size_t size;
	int result = 0;
	while (http_word(&w, &word, &size)) {
		const struct protocol *p = protocol_find(word, size, use);
		result = -1;
		if (!p)
			continue;
		u->protocol = p->name;
		u->version = p->version;
		u->base64 = p->base64;
		u->tunnel = p->tunnel;
		return 1;
	}
	return result;
}

static int websocket_choose(const struct http_request *r, unsigned use, struct upgrade *u, const char **ret_why) {
	const char *key = http_header(r, "Sec-WebSocket-Key"), *version = http_header(r, "Sec-WebSocket-Version");
	*ret_why = "the WebSocket handshake is incomplete, or of another version than 13";
	if (strcmp(r->method, "GET") != 0 || !key || !version || strcmp(version, "13") != 0 ||
	    websocket_accept(key, u->accept) < 0)
		return 400;
	u->websocket = true;
	int chosen = protocol_choose(r, "Sec-WebSocket-Protocol", use | WEBSOCKET, u);
	*ret_why = "none of the protocols in Sec-WebSocket-Protocol is supported";
	/* The field's oldest clients name none and mean the first version; for
	 * forwarded ports that is the form of version 4. */
	if (chosen == 0)
		u->version = use == FORWARD ? 4 : 1;
	return chosen < 0 ? 403 : 0;
}

static int spdy_choose(const struct http_request *r, unsigned use, struct upgrade *u, const char **ret_why) {
	int chosen = protocol_choose(r, "X-Stream-Protocol-Version", use | SPDY, u);
	*ret_why = "none of the protocols in X-Stream-Protocol-Version is supported";
	if (chosen == 0)
		u->version = use == FORWARD ? 0 : 1;
	return chosen < 0 ? 403 : 0;
}

int upgrade_choose(const struct http_request *r, enum upgrade_kind kind, struct upgrade *ret_upgrade,
		   const char **ret_why) {
	unsigned use = kind == UPGRADE_FORWARD ? FORWARD : REMOTE;
	*ret_upgrade = (struct upgrade){ 0 };
	*ret_why = "the request must ask for an upgrade to SPDY/3.1 or websocket";
	if (!http_header_has(r, "Connection", "Upgrade"))
		return 400;
	if (http_header_has(r, "Upgrade", "websocket"))
		return websocket_choose(r, use, ret_upgrade, ret_why);
	if (http_header_has(r, "Upgrade", "SPDY/3.1"))
		return spdy_choose(r, use, ret_upgrade, ret_why);
	return 400;
}
