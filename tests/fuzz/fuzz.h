/*
 * One harness per decoder that faces a client, a registry or an
 * administrator's file: tests/fuzz/fuzz_X.c, libFuzzer's entry point. Its
 * corpus is tests/fuzz/corpus/fuzz_X/, one input per file.
 *
 *   make check      replays every corpus, with any compiler (replay.c)
 *   make fuzz-run   fuzzes from the corpora with clang's libFuzzer, SECONDS each
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An invariant of the harness, in every build. */
static inline void require(int condition) {
	if (!condition)
		abort();
}
