/* Messages of the Kata agent's services and of its shim's hypervisor. See dialect.h. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try(GROUP_BIT(AGENT) | GROUP_BIT(HYPERVISOR), data, size);
}
