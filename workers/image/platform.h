/* Which of an index's images runs on this machine. Pure. */
#pragma once

#include "base/macros.h"

#define PLATFORM_TEXT_MAX 32

/* os and architecture in Go's words: "linux", "arm64"; variant "v7" or empty. */
struct platform {
	char os[PLATFORM_TEXT_MAX];
	char architecture[PLATFORM_TEXT_MAX];
	char variant[PLATFORM_TEXT_MAX];
};

/* Any argument may be empty or NULL; synonyms ("x86_64", "aarch64", "armhf")
 * become Go's words, and what the variant leaves out is filled in. Longer
 * texts than fit are cut: they match nothing. */
struct platform platform_make(const char *os, const char *architecture, const char *variant);
struct platform platform_host(void);

/* How well an image runs: 0 not at all, the higher the better. */
int platform_rank(const struct platform *wanted, const struct platform *offered);

/* "linux/arm/v7" */
void platform_text(const struct platform *p, char ret_text[3 * PLATFORM_TEXT_MAX + 3]);
