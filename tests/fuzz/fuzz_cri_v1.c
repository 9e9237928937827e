/* Messages of runtime.v1, and of the other services whose version is v1: health and admin. See dialect.h. */
#include "tests/fuzz/dialect.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	return dialect_try("v1", data, size);
}
