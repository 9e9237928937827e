/* Messages of runtime.v1, and of the health and admin services. See dialect.h. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try(GROUP_BIT(CRI) | GROUP_BIT(HEALTH) | GROUP_BIT(ADMIN), data, size);
}
