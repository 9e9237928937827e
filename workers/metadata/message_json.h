/* A protobuf message as JSON: fields with their default value are left out, an
 * enumeration is its number, a map an object, and bytes don't appear. */
#pragma once

#include "base/json.h"

#include <protobuf-c/protobuf-c.h>

enum message_names {
	MESSAGE_NAMES_PROTO, /* as the .proto file says, as Go's encoding/json does */
	MESSAGE_NAMES_OCI,   /* "OOMScoreAdj" is "oomScoreAdj": the runtime spec's */
};

/* key NULL: at the top. */
void message_json(struct json *j, const char *key, const ProtobufCMessage *m, enum message_names names);
