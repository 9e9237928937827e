/* Signals by the names that images and the CRI use. */
#pragma once

#include "cri/runtime.pb-c.h"

/* "SIGTERM", "TERM", "15", "SIGRTMIN+3"; 0 when it is none. */
unsigned signal_parse(const char *text);
/* The CRI's number of a signal; 0 for "the default". */
unsigned signal_from_cri(Runtime__V1__Signal s);
Runtime__V1__Signal signal_to_cri(unsigned number);
