/* The kernel's capabilities by number: "CAP_CHOWN", ... */
#pragma once

#define CAPABILITIES 41

extern const char *const capability_names[CAPABILITIES];
