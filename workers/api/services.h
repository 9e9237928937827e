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
 */
#pragma once

#include "workers/api/grpc.h"

extern const struct grpc_service services[]; /* ends with name NULL */
