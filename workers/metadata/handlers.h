/*
 * One function per row of messages.def that this worker receives, of the row's
 * name. Each answers the request, now or later, exactly once. They are in the
 * files of their subjects; handlers.c has their table.
 */
#pragma once

#include "workers/metadata/metadata.h"

#define TO_METADATA(name) void name(struct metadata *m, struct msg_request *r, const ProtobufCMessage *request);
#include "msg/receivers.def"
