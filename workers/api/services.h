/*
 * Every gRPC service of the api worker; one row each: the group by which an
 * endpoint names it, its name and descriptor, its methods, which lie in the
 * folder of its dialect. A group that gets its first service joins
 * GROUPS_SERVED in boot/endpoint.h, and with it endpoints that have only been
 * waiting for it are made.
 *
 * A method is one row of messages.def where it can be; what it needs of an
 * endpoint is then the row's flag. Else it has a handler (grpc.h) and says it
 * itself. Its row in docs/tests.md says what shows it.
 *
 * There are two such tables: services.c is the daemon's, services_agent.c that
 * of the agent in a guest, whose executable has no other dialect in it.
 */
#pragma once

#include "workers/api/grpc.h"
#include "workers/api/protocol.h"

extern const struct grpc_service services[]; /* ends with name NULL */
/* What carries them; NULL: this program doesn't speak it. */
extern const struct protocol *const protocols[PROTOCOL_COUNT];
