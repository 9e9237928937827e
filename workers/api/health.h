/*
 * grpc.health.v1: whether this server serves, asked once (Check) or told with
 * every change (Watch).
 *
 * Serving means that requests reach the metadata worker. A service is known by
 * its name in the table. Of one that isn't Watch says SERVICE_UNKNOWN and goes
 * on, as the protocol has it, though here no service ever arrives later.
 */
#pragma once

#include "workers/api/grpc.h"

extern const struct grpc_method health_methods[];

/* The metadata worker has come or gone. */
void health_changed(struct grpc_server *server);
/* Nothing will be served any more: every Watch is told, and ends. */
void health_stop(struct grpc_server *server);
