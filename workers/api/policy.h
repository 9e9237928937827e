/*
 * What a client may do at this endpoint. Both questions are answered before a
 * byte of a request's body is looked at; whoever takes over this process can
 * change the answers, but not what its link to the metadata worker carries.
 */
#pragma once

#include "workers/api/grpc.h"

/* 0, or PERMISSION_DENIED: by who it is, */
int policy_client(const struct boot_endpoint *e, const struct credentials *client, struct fault *fault);
/* and by what it wants. */
int policy_method(const struct boot_endpoint *e, const struct grpc_method *m, struct fault *fault);
