/* The Kata agent's services (package grpc), which its hosts call over ttrpc. */
#pragma once

#include "workers/api/grpc.h"

extern const struct grpc_method agent_health_methods[], agent_service_methods[];
