/* The CRI's calls. Its types are the internal types, so a call is one row; only
 * events have numbers that the client doesn't see. */
#pragma once

#include "workers/api/grpc.h"

extern const struct grpc_translator cri_events;
extern const struct grpc_method cri_runtime_methods[], cri_image_methods[];
