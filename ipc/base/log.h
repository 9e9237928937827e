/*
 * One line per event on stderr, key=value, one write(2) each. The supervisor
 * gives every process the same stderr (journald or a file).
 *
 *   2026-01-02T03:04:05.678Z info metadata[812] req=1f4 msg="pod started" pod=4f1c
 *
 * Library code logs at debug only; the request boundary logs once.
 */
#pragma once

#include "base/macros.h"

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Once at start; name must stay valid (a literal). */
void log_init(const char *name, enum log_level level);
void log_set_level(enum log_level level);
/* Whether a line of this level is written: to save the work of preparing it. */
bool log_enabled(enum log_level level);
/* "debug", "info", "warn" or "error"; -EINVAL otherwise. */
int log_level_parse(const char *text, enum log_level *ret_level);

/* Keys and values follow the message in pairs of strings, NULL ends them:
 *     log_event(LOG_INFO, "pod started", "pod", id, "ms", ms_text, NULL); */
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* For lines with no fields but the sentence. */
void log_text(enum log_level level, const char *format, ...) PRINTF(2, 3);
