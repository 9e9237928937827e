/* Every gRPC service of the api worker; one row each. */
#pragma once

#include "workers/api/grpc.h"

extern const struct grpc_service services[]; /* ends with name NULL */
