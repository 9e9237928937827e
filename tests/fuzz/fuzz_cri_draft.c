/* Messages of the CRI's draft, and their translation to and from those of today. See dialect.h. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try(GROUP_BIT(CRI_SEED), data, size);
}
