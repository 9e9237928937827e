/* Listening sockets and their connections: accepts, feeds a session of the
 * endpoint's protocol per connection, sends what it has to say. */
#pragma once

#include "loop/loop.h"
#include "workers/api/protocol.h"

struct server;

struct server_options {
	struct loop *loop;
	const struct protocol *protocol;
	void *owner; /* whoever answers what is asked */
	/* Whether the client is served at all. Others have a few connections
	 * among them, on which they hear why not. NULL: everybody is. */
	bool (*admits)(void *owner, const struct credentials *client);
};

int server_new(const struct server_options *options, struct server **ret_server) NODISCARD;
/* Ends all connections at once. */
void server_free(struct server *s);
/* Takes the listening socket, even on error. */
int server_listen(struct server *s, int fd) NODISCARD;
/* Serves a connection that is open already, on a file that is read and written
 * rather than a socket; fd is taken, even on error. gone is called when the
 * connection has ended, not when the server has. */
int server_serve(struct server *s, int fd, void (*gone)(void *ctx), void *ctx) NODISCARD;
/* No new connections and no new requests; done once the open requests are
 * answered, or after grace_ns. */
void server_stop(struct server *s, int64_t grace_ns, void (*done)(void *ctx), void *ctx);
