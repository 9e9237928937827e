/* Messages of containerd's services, and their translation to and from objects. See dialect.h. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try(GROUP_BIT(CONTAINERD), data, size);
}
