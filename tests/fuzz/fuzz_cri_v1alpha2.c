/* Messages of runtime.v1alpha2. See dialect.h. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try(GROUP_BIT(CRI_V1ALPHA2), data, size);
}
