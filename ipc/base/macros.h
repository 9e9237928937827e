/* The few language helpers that the whole house uses. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Runs fn(&variable) when the variable goes out of scope. */
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NODISCARD __attribute__((warn_unused_result))

static inline void free_p(void *p) {
	free(*(void **)p);
}
#define CLEANUP_FREE CLEANUP(free_p)

/* Hands ownership of a pointer on: the variable is NULL afterwards. */
#define take_ptr(p)                   \
	({                            \
		__auto_type _t = (p); \
		(p) = NULL;           \
		_t;                   \
	})
