/* The Test Anything Protocol, as far as our tests need it. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

static int tap_count, tap_failures;

#define tap_check(condition, ...)                                                  \
	do {                                                                       \
		bool tap_ok = (condition);                                         \
		tap_failures += !tap_ok;                                           \
		printf("%sok %d - ", tap_ok ? "" : "not ", ++tap_count);           \
		printf(__VA_ARGS__);                                               \
		printf("\n");                                                      \
		if (!tap_ok)                                                       \
			printf("#   %s:%d: %s\n", __FILE__, __LINE__, #condition); \
		fflush(stdout);                                                    \
	} while (0)

#define tap_skip(name, reason) printf("ok %d - %s # SKIP %s\n", ++tap_count, name, reason)

/* The exit status of the test program. */
static inline int tap_done(void) {
	printf("1..%d\n", tap_count);
	return tap_failures ? 1 : 0;
}
