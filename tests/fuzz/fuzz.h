/*
 * One harness per parser that faces a peer: tests/fuzz/fuzz_X.c. Each is
 * libFuzzer's entry point plus its own seeds, so that it also runs without
 * libFuzzer: driver.c mutates the seeds with a fixed random sequence, for a
 * bounded number of runs, or replays files.
 */
#pragma once

#include "base/buffer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* The n-th seed; 0 when there are no more. */
size_t fuzz_seed(unsigned n, struct buffer *ret_seed);
