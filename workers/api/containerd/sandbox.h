/* What the files about sandboxes share. */
#pragma once

#include "workers/api/containerd/containerd.h"

#include "containerd/sandbox.pb-c.h"

/* NULL: out of memory. */
Bulkhead__CsandboxKey *ctd_sandbox_key(struct grpc_translation *t, const char *id, const char *sandboxer);
/* What the Store keeps of one; NULL: out of memory. */
Bulkhead__Object *ctd_sandbox_object(struct grpc_translation *t, const Containerd__Types__Sandbox *s);
/* Rows whose request is the key alone. */
int ctd_sandbox_request(struct grpc_translation *t, const char *id, const char *sandboxer,
			ProtobufCMessage **ret_internal, struct fault *fault);
/* An answer of Status in the form of the API's first age. */
int ctd_seed_sandbox_status(struct grpc_translation *t, const Bulkhead__Csandbox *s, ProtobufCMessage **ret_reply,
			    struct fault *fault);
/* As both ages call it. */
const char *ctd_sandbox_state(const Bulkhead__Csandbox *s);
