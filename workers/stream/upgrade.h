/* What a client wants to speak, and what it gets. */
#pragma once

#include "workers/stream/http.h"
#include "workers/stream/websocket.h"

enum upgrade_kind { UPGRADE_REMOTE, UPGRADE_FORWARD };

struct upgrade {
	bool websocket;
	bool tunnel;	      /* SPDY inside of WebSocket messages */
	bool base64;	      /* text messages */
	unsigned version;     /* of channel.k8s.io: 1 to 5; 0 with portforward.k8s.io */
	const char *protocol; /* to be told; NULL: the client named none */
	char accept[WEBSOCKET_ACCEPT_SIZE];
};

/* 0, or the HTTP status that refuses it and a sentence. */
int upgrade_choose(const struct http_request *r, enum upgrade_kind kind, struct upgrade *ret_upgrade,
		   const char **ret_why) NODISCARD;
