/* The grammars of single header fields; pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* grpc-timeout: one to eight digits and one of H M S m u n. Nanoseconds, cut
 * at a century so that a deadline can be computed from it; -EINVAL. */
#define FIELD_TIMEOUT_MAX (INT64_C(100) * 365 * 86400 * 1000000000)
int field_timeout(const char *text, int64_t *ret_ns);
/* W3C trace context's traceparent; false, and nothing written, when it isn't
 * valid (then the field counts as absent, says its specification). */
bool field_traceparent(const char *text, uint64_t ret_trace[2]);
/* application/grpc, also with +proto and with parameters; not +json. */
bool field_is_grpc(const char *content_type);
/* grpc-message: percent-encodes what isn't printable ASCII, and '%'. The room
 * must hold three bytes per byte of text, and a NUL. */
void field_encode_message(const char *text, char *ret_encoded);
