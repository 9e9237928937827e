#include "workers/metadata/object/object.h"

static const struct object_view *const views[OBJECT_KINDS] = { 0 };

const struct object_view *object_view(Bulkhead__ObjectKind kind) {
	return kind > 0 && kind < OBJECT_KINDS ? views[kind] : NULL;
}
