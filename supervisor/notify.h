/* What the service manager is told (the sd_notify protocol); all of it does
 * nothing when there is none. */
#pragma once

#include <stdint.h>

/* Lines of "KEY=value". */
void notify(const char *lines);
/* Nanoseconds between two WATCHDOG=1; 0: it doesn't ask for them. */
int64_t notify_watchdog_period(void);
