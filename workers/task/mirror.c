/*
 * The descriptors that keepers hand to this worker: as long as somebody holds
 * them, what they name outlives a killed keeper.
 */
#include "mirror.h"

void mirror_drop_all(struct sandbox *s) {
}
