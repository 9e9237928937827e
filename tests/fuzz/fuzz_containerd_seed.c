/* As fuzz_containerd, of containerd's first API. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try(GROUP_BIT(CONTAINERD_SEED) | GROUP_BIT(SANDBOX_SEED), data, size);
}
